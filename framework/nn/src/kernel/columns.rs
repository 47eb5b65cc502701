//! The loop over the columns of a row, a vector at a time.

/// Runs a body for every vector of a row of `$width` numbers, with the vector's offset and the mask of its lanes. The body
/// is compiled twice: for whole vectors, where masked loads and stores become plain ones, and for what is left of the row.
macro_rules! columns {
    ($s:ident, $width:expr, |$i:ident, $lanes:ident| $body:block) => {{
        let mut $i = 0;
        while $i + S::LANES <= $width {
            let $lanes = $s.mask(S::LANES);
            $body
            $i += S::LANES;
        }
        if $i < $width {
            let $lanes = $s.mask($width - $i);
            $body
        }
    }};
}
pub(super) use columns;
