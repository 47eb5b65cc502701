//! A pupil of SEED as the query encoder of MoCo: the start of the paper's recipe.
//!
//! The reference's script renames the pupil and takes the teacher out, but leaves the pupil's old names in as well, so
//! that its files are nearly twice as large; nothing reads them. Both forms are offered: the very file that the script
//! makes, and the one that it means to make. Queue and pointer are kept, with the teacher's embeddings in them, since
//! the recipe starts from them.

use smallfry_formats::torch::Value;

/// A converted file.
#[derive(Debug)]
pub(super) struct Converted {
    /// All that was in the file, with another state dict.
    pub value: Value,
    /// What was done, in a line.
    pub summary: String,
}

/// MoCo's form of `value`, a checkpoint of SEED or of MoCo; `clean` leaves the pupil's old names out.
///
/// # Errors
/// It is neither.
pub(super) fn to_moco(value: Value, clean: bool) -> Result<Converted, String> {
    let (Value::Dict(mut entries) | Value::OrderedDict(mut entries)) = value else {
        return Err("it holds no dictionary".to_owned());
    };
    let place = entries
        .iter()
        .position(|(key, _)| key.as_text() == Some("state_dict"))
        .ok_or("it has no `state_dict`")?;
    let (Value::Dict(tensors) | Value::OrderedDict(tensors)) =
        std::mem::replace(&mut entries[place].1, Value::None)
    else {
        return Err("its `state_dict` is no dictionary".to_owned());
    };
    let (mut kept, mut renamed) = (Vec::new(), Vec::new());
    let mut teacher = 0;
    for (key, tensor) in tensors {
        let name = key.as_text().ok_or("it has a tensor without a name")?;
        // Files of a single device have no `module.`, which every program that reads them expects.
        let name = name.strip_prefix("module.").unwrap_or(name).to_owned();
        if name.starts_with("teacher.") {
            teacher += 1;
            continue;
        }
        if let Some(rest) = name.strip_prefix("student.") {
            renamed.push((format!("module.encoder_q.{rest}"), tensor.clone()));
            if clean {
                continue;
            }
        }
        kept.push((format!("module.{name}"), tensor));
    }
    let queries = |(name, _): &&(String, Value)| name.starts_with("module.encoder_q.");
    let summary = match renamed.len() {
        0 => match kept.iter().filter(queries).count() {
            0 => return Err("it has neither a pupil nor a query encoder".to_owned()),
            count => format!("{count} tensors of `encoder_q`, in MoCo's layout already"),
        },
        count => {
            format!(
                "{count} tensors of `student` as `encoder_q`, {teacher} of the teacher left out"
            )
        }
    };
    kept.extend(renamed);
    entries[place].1 = Value::ordered_dict(kept);
    Ok(Converted {
        value: Value::Dict(entries),
        summary,
    })
}

#[cfg(test)]
mod tests {
    use smallfry_formats::Array;

    use super::*;

    fn file(names: &[&str]) -> Value {
        let tensors = names.iter().enumerate().map(|(i, name)| {
            let array = Array::from_i64(&[1], &[i as i64]);
            (*name, Value::Array(array))
        });
        Value::dict([
            ("epoch", Value::Integer(2)),
            ("state_dict", Value::ordered_dict(tensors)),
            ("optimizer", Value::None),
        ])
    }

    fn names(value: &Value) -> Vec<&str> {
        let tensors = value.get("state_dict").and_then(Value::entries);
        let keys = tensors.unwrap_or_default().iter();
        keys.filter_map(|(key, _)| key.as_text()).collect()
    }

    #[test]
    fn the_pupil_becomes_the_query_encoder() {
        let names_in = [
            "module.queue",
            "module.student.a",
            "module.teacher.a",
            "module.student.fc.0",
        ];
        let as_the_script = to_moco(file(&names_in), false).unwrap().value;
        assert_eq!(
            names(&as_the_script),
            [
                "module.queue",
                "module.student.a",
                "module.student.fc.0",
                "module.encoder_q.a",
                "module.encoder_q.fc.0"
            ]
        );
        assert_eq!(as_the_script.get("epoch"), Some(&Value::Integer(2)));
        let clean = to_moco(file(&names_in), true).unwrap();
        assert_eq!(
            names(&clean.value),
            [
                "module.queue",
                "module.encoder_q.a",
                "module.encoder_q.fc.0"
            ]
        );
        assert_eq!(
            clean.summary,
            "2 tensors of `student` as `encoder_q`, 1 of the teacher left out"
        );
    }

    #[test]
    fn files_of_one_device_get_their_prefix() {
        let value = to_moco(file(&["queue", "student.a"]), true).unwrap().value;
        assert_eq!(names(&value), ["module.queue", "module.encoder_q.a"]);
    }

    #[test]
    fn other_files_are_refused() {
        assert!(to_moco(Value::None, true).is_err());
        assert!(to_moco(Value::dict([("model", Value::None)]), true).is_err());
        let refusal = to_moco(file(&["conv1.weight"]), true).unwrap_err();
        assert!(refusal.contains("neither"), "{refusal}");
        let moco = to_moco(file(&["module.encoder_q.a"]), true).unwrap();
        assert!(moco.summary.contains("already"));
    }
}
