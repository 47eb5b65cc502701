//! Image files to RGB pixels, as Pillow's `convert("RGB")` has them, whatever the file turns out to hold.
//!
//! Three things that surprise: the format is told by the content, not the name; the EXIF orientation is ignored
//! unless asked for, since Pillow and torchvision ignore it and published numbers depend on it; and transparency is
//! dropped, not blended. A file that is cut short is refused, as Pillow refuses it, although the decoder would fill the
//! rest with grey.

use std::{
    fs::File,
    io::{Cursor, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use image::{ColorType, ImageDecoder, ImageFormat, ImageReader, Limits, codecs::jpeg::JpegDecoder};

use self::jpeg::Jpeg;
use crate::{buffer, dataset::LoadError, image::Image};

mod jpeg;

/// The most pixels an image may have; beyond it, a file is taken for a decompression bomb.
pub const MOST_PIXELS: u64 = 1 << 27;

/// The most bytes a file may have.
const MOST_BYTES: u64 = 1 << 30;

/// The most bytes a decoder may allocate beside the image.
const MOST_WORK: u64 = 1 << 30;

/// Pixels that a byte of a file can stand for at most: deflate expands by 1032, and a byte has eight bilevel pixels. LZW
/// and Huffman-coded blocks stay below that; WebP and TIFF know no bound.
const PIXELS_A_BYTE: u64 = 8 * 1032;

/// What to do about an orientation tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Orientation {
    /// Ignore it, as Pillow and torchvision do when they load an image.
    #[default]
    AsStored,
    /// Turn the image upright.
    Upright,
}

/// Reads and decodes an image file.
///
/// # Errors
/// The file is missing, not a plain file, damaged, cut short, too large or no image.
pub fn read(path: &Path, orientation: Orientation) -> Result<Image, LoadError> {
    let name = path.display().to_string();
    let bytes = match read_bytes(path) {
        Ok(bytes) => bytes,
        Err(reason) => return Err(LoadError { name, reason }),
    };
    let image = decode(&name, &bytes, orientation);
    buffer::give(bytes);
    image
}

/// The content of a plain file, in a recycled buffer.
fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    // A pipe would block when opened, so look before.
    let about = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if about.is_dir() {
        return Err("is a directory".into());
    }
    if !about.is_file() {
        return Err("is not a plain file".into());
    }
    if about.len() > MOST_BYTES {
        return Err(format!("has {} bytes, more than {MOST_BYTES}", about.len()));
    }
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = buffer::take(about.len() as usize);
    file.read_exact(&mut bytes)
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Decodes an image of any supported format; `name` is for the error.
///
/// # Errors
/// The bytes are damaged, cut short, no image, or describe too large an image.
pub fn decode(name: &str, bytes: &[u8], orientation: Orientation) -> Result<Image, LoadError> {
    catch_unwind(AssertUnwindSafe(|| decode_bytes(bytes, orientation)))
        .unwrap_or_else(|_| Err("the decoder failed on damaged data".into()))
        .map_err(|reason| LoadError {
            name: name.into(),
            reason,
        })
}

fn decode_bytes(bytes: &[u8], orientation: Orientation) -> Result<Image, String> {
    if bytes.is_empty() {
        return Err("is empty".into());
    }
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| error.to_string())?;
    let format = reader
        .format()
        .ok_or("is no image of a known format (JPEG, PNG, WebP, GIF, BMP, TIFF)")?;
    if format == ImageFormat::Jpeg && !jpeg::is_complete(bytes) {
        return Err("is cut short".into());
    }
    if format == ImageFormat::Jpeg
        && let Some(image) = decode_jpeg(bytes, orientation)?
    {
        return Ok(image);
    }
    let mut reader = reader;
    reader.no_limits();
    let mut decoder = reader.into_decoder().map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions();
    check_size(format, width, height, bytes.len())?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MOST_WORK);
    decoder
        .set_limits(limits)
        .map_err(|error| error.to_string())?;
    let turn = match orientation {
        Orientation::AsStored => image::metadata::Orientation::NoTransforms,
        Orientation::Upright => decoder.orientation().map_err(|error| error.to_string())?,
    };

    let (width, height) = (width as usize, height as usize);
    let color = decoder.color_type();
    let mut raw = buffer::take(width * height * usize::from(color.bytes_per_pixel()));
    decoder
        .read_image(&mut raw)
        .map_err(|error| error.to_string())?;
    let image = to_rgb(raw, color, width, height)?;
    Ok(turned(image, turn))
}

/// Refuses pictures without pixels, and those too large for this program or for their file of `length` bytes.
fn check_size(format: ImageFormat, width: u32, height: u32, length: usize) -> Result<(), String> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err("has no pixels".into());
    }
    if pixels > MOST_PIXELS {
        return Err(format!(
            "has {width} x {height} pixels, more than {MOST_PIXELS} in all"
        ));
    }
    let bounded = matches!(
        format,
        ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::Gif | ImageFormat::Bmp
    );
    if bounded && pixels / PIXELS_A_BYTE > length as u64 {
        return Err(format!(
            "claims {width} x {height} pixels, which its {} bytes cannot hold",
            length
        ));
    }
    Ok(())
}

/// Decodes the kinds of JPEG files that this crate decodes itself; there is no image for the others.
fn decode_jpeg(bytes: &[u8], orientation: Orientation) -> Result<Option<Image>, String> {
    let Some(jpeg) = Jpeg::open(bytes) else {
        return Ok(None);
    };
    let (width, height) = jpeg.dimensions();
    check_size(ImageFormat::Jpeg, width, height, bytes.len())?;
    if jpeg.work() > MOST_WORK {
        return Ok(None);
    }
    let turn = match orientation {
        Orientation::AsStored => image::metadata::Orientation::NoTransforms,
        Orientation::Upright => JpegDecoder::new(Cursor::new(bytes))
            .and_then(|mut decoder| decoder.orientation())
            .map_err(|error| error.to_string())?,
    };
    Ok(jpeg.decode().map(|image| turned(image, turn)))
}

/// Eight-bit RGB of whatever the decoder returned; alpha is dropped.
fn to_rgb(raw: Vec<u8>, color: ColorType, width: usize, height: usize) -> Result<Image, String> {
    if color == ColorType::Rgb8 {
        return Ok(Image {
            width,
            height,
            pixels: raw,
        });
    }
    let mut image = Image::scratch(width, height);
    let out = image.pixels.chunks_exact_mut(3);
    // Sixteen-bit samples are in the machine's byte order.
    let wide = |bytes: &[u8]| u16::from_ne_bytes([bytes[0], bytes[1]]);
    match color {
        ColorType::L8 => out.zip(&raw).for_each(|(pixel, &grey)| pixel.fill(grey)),
        ColorType::La8 => out
            .zip(raw.chunks_exact(2))
            .for_each(|(pixel, from)| pixel.fill(from[0])),
        ColorType::Rgba8 => out
            .zip(raw.chunks_exact(4))
            .for_each(|(pixel, from)| pixel.copy_from_slice(&from[..3])),
        ColorType::L16 => out
            .zip(raw.chunks_exact(2))
            .for_each(|(pixel, from)| pixel.fill((wide(from) >> 8) as u8)),
        ColorType::La16 => out
            .zip(raw.chunks_exact(4))
            .for_each(|(pixel, from)| pixel.fill((wide(from) >> 8) as u8)),
        ColorType::Rgb16 | ColorType::Rgba16 => {
            let size = usize::from(color.bytes_per_pixel());
            for (pixel, from) in out.zip(raw.chunks_exact(size)) {
                for (value, from) in pixel.iter_mut().zip(from.chunks_exact(2)) {
                    *value = (wide(from) >> 8) as u8;
                }
            }
        }
        _ => return Err("has floating-point pixels, whose range is not known".into()),
    }
    buffer::give(raw);
    Ok(image)
}

/// The image turned or mirrored.
fn turned(image: Image, turn: image::metadata::Orientation) -> Image {
    use image::metadata::Orientation::*;
    // Whether the axes are exchanged, and then, which of the axes of the result run backwards.
    let (exchange, back_x, back_y) = match turn {
        NoTransforms => return image,
        FlipHorizontal => (false, true, false),
        Rotate180 => (false, true, true),
        FlipVertical => (false, false, true),
        Rotate90FlipH => (true, false, false),
        Rotate90 => (true, true, false),
        Rotate270FlipH => (true, true, true),
        Rotate270 => (true, false, true),
    };
    let (width, height) = if exchange {
        (image.height, image.width)
    } else {
        (image.width, image.height)
    };
    let mut out = Image::scratch(width, height);
    for y in 0..height {
        for x in 0..width {
            let (sx, sy) = (
                if back_x { width - 1 - x } else { x },
                if back_y { height - 1 - y } else { y },
            );
            let (sx, sy) = if exchange { (sy, sx) } else { (sx, sy) };
            let from = 3 * (sy * image.width + sx);
            let to = 3 * (y * width + x);
            out.pixels[to..to + 3].copy_from_slice(&image.pixels[from..from + 3]);
        }
    }
    image.recycle();
    out
}
