//! Vectors of SQL values: given ones unchanged, deferred ones from their models, those of one model and role
//! together.

use std::rc::Rc;

use leann_value::{Role, Value};

use super::loaded::{Loaded, get};
use super::reuse::Reuse;
use crate::error::Result;
use crate::value::Embedding;

/// Embeds texts with the model called `model`. Returns vectors of unit length, in the order of the texts.
pub fn embed(model: &str, role: Role, texts: &[&str]) -> Result<Vec<Rc<[f32]>>> {
    get(model)?.embed(role, texts, Reuse::Everywhere)
}

/// Returns the vector of one value, of unit length. A deferred value is embedded by the model that it names,
/// or by `default` if it names none.
pub fn vector(value: &Embedding, default: &str) -> Result<Rc<[f32]>> {
    Ok(vectors(&[value], default)?.swap_remove(0))
}

/// Returns the vectors of several values, in order, each as [`vector`] returns it.
pub fn vectors(values: &[&Embedding], default: &str) -> Result<Vec<Rc<[f32]>>> {
    resolve(values, default, embed)
}

impl Loaded {
    /// Returns the vectors of values that all belong to this model, in order.
    pub fn vectors(&self, values: &[&Embedding], reuse: Reuse) -> Result<Vec<Rc<[f32]>>> {
        resolve(values, self.name(), |_, role, texts| self.embed(role, texts, reuse))
    }
}

/// The deferred values of one model in one role: their positions among all values, and their texts.
struct Group<'a> {
    model: &'a str,
    role: Role,
    positions: Vec<usize>,
    texts: Vec<&'a str>,
}

fn resolve(
    values: &[&Embedding],
    default: &str,
    mut embed: impl FnMut(&str, Role, &[&str]) -> Result<Vec<Rc<[f32]>>>,
) -> Result<Vec<Rc<[f32]>>> {
    let mut vectors: Vec<Option<Rc<[f32]>>> = vec![None; values.len()];
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (position, value) in values.iter().enumerate() {
        match &value.0 {
            Value::Dense(numbers) => vectors[position] = Some(Rc::from(numbers.as_slice())),
            Value::Deferred { text, role, model } => {
                let model = model.as_deref().unwrap_or(default);
                let same = |group: &&mut Group<'_>| group.model == model && group.role == *role;
                match groups.iter_mut().find(same) {
                    Some(group) => {
                        group.positions.push(position);
                        group.texts.push(text);
                    }
                    None => groups.push(Group {
                        model,
                        role: *role,
                        positions: vec![position],
                        texts: vec![text],
                    }),
                }
            }
        }
    }
    for Group { model, role, positions, texts } in groups {
        for (position, vector) in positions.into_iter().zip(embed(model, role, &texts)?) {
            vectors[position] = Some(vector);
        }
    }
    Ok(vectors.into_iter().flatten().collect())
}
