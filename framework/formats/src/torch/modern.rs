//! The container of PyTorch 1.6 and later: a zip with one pickle, and one record for each storage.
//!
//! All records lie in one folder of any name. Records beside those that the pickle names are not read.

use std::io::{Read, Seek};

use super::{
    Limits, Value,
    assemble::{Storages, assemble, wrong_size},
    graph::{Graph, Storage},
    pickle,
};
use crate::{error::Error, zip::Archive};

/// The newest version of the layout that PyTorch itself reads.
const NEWEST_VERSION: u64 = 10;

/// Reads the value of a zip container.
///
/// # Errors
/// The container or its pickle is damaged, foreign, hostile or too large.
pub(super) fn read(source: impl Read + Seek, limits: &Limits) -> Result<Value, Error> {
    let mut archive = Archive::open(source)?;
    let folder = folder(&archive)?;
    check_layout(&mut archive, &folder)?;
    let name = format!("{folder}/data.pkl");
    if archive
        .size(&name)
        .is_some_and(|size| size > limits.pickle_bytes)
    {
        return Err(
            Error::content("holds more beside its tensors than any checkpoint does").remedy(
                "save the weights alone, such as with `torch.save(model.state_dict(), path)`",
            ),
        );
    }
    let program = archive.read(&name)?;
    let mut graph = Graph::new(limits);
    let (root, _) = pickle::load(&program[..], program.len() as u64, &mut graph, limits)?;
    drop(program);
    let length = archive.length();
    assemble(
        graph,
        root,
        &mut Records { archive, folder },
        length,
        limits,
    )
}

/// The folder of the records: that of the one pickle.
fn folder<R: Read + Seek>(archive: &Archive<R>) -> Result<String, Error> {
    let mut folders = archive
        .names()
        .filter_map(|name| name.strip_suffix("/data.pkl"))
        .filter(|folder| !folder.contains('/'));
    match (folders.next(), folders.next()) {
        (Some(folder), None) => Ok(folder.to_owned()),
        (Some(_), Some(_)) => Err(Error::content("is a container of several pickles")),
        (None, _) => Err(Error::content(
            "is a zip archive, but has no record `data.pkl` in a folder",
        )
        .remedy("give a file that `torch.save` wrote")),
    }
}

fn check_layout<R: Read + Seek>(archive: &mut Archive<R>, folder: &str) -> Result<(), Error> {
    if archive.size(&format!("{folder}/constants.pkl")).is_some() {
        return Err(Error::code("is a program of TorchScript, not a file of weights").remedy(
            "load it in Python and save the weights alone, such as with `torch.save(model.state_dict(), path)`",
        ));
    }
    if let Some(order) = short(archive, &format!("{folder}/byteorder"))?
        && order != "little"
    {
        return Err(
            Error::content("was written by a big-endian machine, which is not read")
                .remedy("load it in Python on an ordinary machine and save it again"),
        );
    }
    if let Some(version) = short(archive, &format!("{folder}/version"))?
        && version
            .parse::<u64>()
            .is_ok_and(|version| version > NEWEST_VERSION)
    {
        return Err(Error::content(format!(
            "is of version {version} of its layout, and {NEWEST_VERSION} is the newest known"
        )));
    }
    Ok(())
}

/// The text of a record of a few letters, if it is there.
fn short<R: Read + Seek>(archive: &mut Archive<R>, name: &str) -> Result<Option<String>, Error> {
    match archive.size(name) {
        Some(size) if size <= 16 => {
            let bytes = archive.read(name)?;
            Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
        }
        _ => Ok(None),
    }
}

struct Records<R> {
    archive: Archive<R>,
    folder: String,
}

impl<R: Read + Seek> Storages for Records<R> {
    fn read(&mut self, storage: &Storage) -> Result<Vec<u8>, Error> {
        let name = format!("{}/data/{}", self.folder, storage.key);
        match self.archive.size(&name) {
            Some(size) if size != storage.bytes => Err(wrong_size(storage, size)),
            _ => self.archive.read(&name),
        }
    }
}
