//! The greatest singular values of a sparse matrix and their directions among its columns, by a randomised subspace iteration.
//!
//! A random subspace of somewhat more directions than are wanted is multiplied with `AᵀA` a few times, and made orthonormal in
//! between; each time turns it further to the greatest directions. What `AᵀA` is inside of it is small, and is decomposed as a whole.
//! Rows are passed over one by one, so nothing of the size of rows times directions is held. Of a matrix that has no more columns than there would be directions the subspace is
//! all there is, and the answer exact.

use super::dense::{Matrix, add, eigen, look, orthonormalise, product};
use super::sample::Sparse;
use super::{FactorError, Setting};
use crate::lookalike::random::Random;

/// Directions beyond those wanted: a part of them, and at least so many. They make the last ones wanted come out, too.
const MORE_PART: usize = 4;
const MORE_MIN: usize = 16;
/// Multiplications. Eight take the error of all but the last few directions below what a sample differs by from another.
const PASSES: usize = 8;
/// A singular value is none below this share of the first.
const VALUE_MIN: f64 = 1e-5;
/// Rows between two looks at whether the caller gave up.
const LOOK_ROWS: usize = 4_096;

/// What a matrix comes to.
#[derive(Debug)]
pub(super) struct Decomposed {
    /// How many singular values there are that are any; if fewer than wanted, the rest is of no use.
    pub(super) rank: usize,
    /// The greatest, falling.
    pub(super) values: Vec<f64>,
    /// Their right singular vectors, turned: a row a column of the matrix, with a number a direction.
    pub(super) items: Vec<f32>,
}

/// How many directions are searched for that many wanted.
pub(super) fn directions(wanted: usize) -> usize {
    wanted + (wanted / MORE_PART).max(MORE_MIN)
}

pub(super) fn decompose(setting: &Setting<'_>, matrix: &Sparse) -> Result<Decomposed, FactorError> {
    let (wanted, width) = (setting.dimension, matrix.width());
    // Directions are rows here, and columns where rows of the matrix meet them.
    let subspace = if width <= directions(wanted) {
        Matrix::identity(width)
    } else {
        let mut random = Random::new(setting.random_seed);
        let mut subspace = Matrix::zeros(directions(wanted), width);
        subspace.numbers.iter_mut().for_each(|number| *number = normal(&mut random));
        orthonormalise(setting, &mut subspace)?;
        for _ in 1..PASSES {
            subspace = multiplied(setting, matrix, &subspace)?;
            orthonormalise(setting, &mut subspace)?;
        }
        subspace
    };
    let image = multiplied(setting, matrix, &subspace)?;
    let size = subspace.rows;
    let mut inside = Matrix::zeros(size, size);
    for row in 0..size {
        look(setting)?;
        for column in 0..=row {
            let both = product(subspace.row(row), image.row(column)) + product(subspace.row(column), image.row(row));
            inside.numbers[row * size + column] = both / 2.0;
            inside.numbers[column * size + row] = both / 2.0;
        }
    }
    drop(image);
    let (squares, turns) = eigen(setting, inside)?;
    let values: Vec<f64> = squares.iter().map(|square| square.max(0.0).sqrt()).collect();
    let first = values.first().copied().unwrap_or(0.0);
    let rank = values.iter().take_while(|value| **value > first * VALUE_MIN).count();
    let found = wanted.min(rank);
    let mut items = vec![0.0_f32; width * found];
    for direction in 0..found {
        look(setting)?;
        let mut column = vec![0.0; width];
        (0..size).for_each(|row| add(&mut column, turns.row(direction)[row], subspace.row(row)));
        // A direction and its opposite are one; so that the next factorisation is like this one, the longest part is positive.
        let longest =
            column.iter().fold(0.0_f64, |longest, part| if part.abs() > longest.abs() { *part } else { longest });
        for (item, part) in column.iter().enumerate() {
            items[item * found + direction] = (part * longest.signum()) as f32;
        }
    }
    Ok(Decomposed { rank, values: values.into_iter().take(found).collect(), items })
}

/// `AᵀA` times each row.
fn multiplied(setting: &Setting<'_>, matrix: &Sparse, subspace: &Matrix) -> Result<Matrix, FactorError> {
    // A column of the matrix meets a row of this in one place.
    let by_column = subspace.transposed();
    let mut image = Matrix::zeros(by_column.rows, by_column.columns);
    let mut met = vec![0.0; by_column.columns];
    for (number, (columns, values)) in matrix.rows().enumerate() {
        if number % LOOK_ROWS == 0 {
            look(setting)?;
        }
        met.fill(0.0);
        for (column, value) in columns.iter().zip(values) {
            add(&mut met, *value, by_column.row(*column as usize));
        }
        for (column, value) in columns.iter().zip(values) {
            add(image.row_mut(*column as usize), *value, &met);
        }
    }
    // Beside the caller's there are two of that size at once, and no more.
    drop(by_column);
    Ok(image.transposed())
}

/// A number of the normal distribution: the sum of twelve uniform ones is one for all that matters here.
fn normal(random: &mut Random) -> f64 {
    (0..12).map(|_| random.unit()).sum::<f64>() - 6.0
}
