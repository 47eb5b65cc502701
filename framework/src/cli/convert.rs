//! `convert IN OUT --to TARGET`: weights from one form to another.

use std::path::PathBuf;

use clap::Args;

use super::{Refusal, to_json};
use crate::convert::{self, Report, Request, Target};

#[derive(Args)]
pub(super) struct Arguments {
    /// The file to read: safetensors, or any file of `torch.save`
    input: PathBuf,
    /// The file to write
    output: PathBuf,
    /// What to make of it: moco, moco-clean, seed, classifier, backbone, torchvision, timm, onnx or safetensors
    #[arg(long, value_name = "TARGET")]
    to: Target,
    /// The backbone, where the file does not say it, such as `resnet18` or `mobilenetv3_small(width: 0.5)`
    #[arg(long, value_name = "NAME(..)")]
    backbone: Option<String>,
    /// The encoder to take of several, such as `teacher`
    #[arg(long, value_name = "NAME")]
    encoder: Option<String>,
    /// Replace files that exist
    #[arg(long)]
    overwrite: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn convert(arguments: Arguments) -> Result<String, Refusal> {
    let request = Request {
        input: arguments.input,
        output: arguments.output,
        target: arguments.to,
        backbone: arguments.backbone,
        encoder: arguments.encoder,
        overwrite: arguments.overwrite,
    };
    let report = convert::convert(&request)?;
    Ok(match arguments.json {
        true => to_json(&report),
        false => text(&report),
    })
}

fn text(report: &Report) -> String {
    let mut text = format!("{}\n", report.weights);
    for file in &report.files {
        text += &format!("wrote {}\n", file.display());
    }
    for note in &report.notes {
        text += &format!("note: {note}\n");
    }
    text
}
