//! A folder of images with views of each, written once.

use std::{path::PathBuf, sync::Arc};

use smallfry::{
    Context, DataSet, Invalid,
    data::{
        Dataset,
        dataset::views::{self, Selection},
    },
    plugin,
};

use crate::refuse;

plugin! {
    /// Images with views of each, as a stage `Views` or the reference's `sample-augs` wrote them
    pub struct StaticViews: DataSet {
        /// The folder of the class folders.
        path: PathBuf = PathBuf::from("views"),
        /// Which files are taken: `Normal` (the image and its two views); views with what they share under noise (`GMask`)
        /// or the mean colour (`AvgMask`), or with as much of it elsewhere (`RandGMask`, `RandAvgMask`); or `All` eleven.
        mode: Selection = Selection::Normal,
    }

    fn build(mut self, context: &Context) -> Result<Box<dyn DataSet>, Invalid> {
        self.path = context.path(&self.path);
        Ok(Box::new(self))
    }
}

impl DataSet for StaticViews {
    fn open(&self) -> Result<Arc<dyn Dataset>, Invalid> {
        let set = views::StaticViews::open(&self.path, self.mode);
        let set = set.map_err(|error| {
            // Files of a mode that are missing are no fault of the path.
            let field = match (self.mode, error.remedy.contains("`Normal`")) {
                (Selection::Normal, _) | (_, false) => "path",
                _ => "mode",
            };
            refuse(field, &error)
        })?;
        Ok(Arc::new(set))
    }
}
