//! The linear algebra of small dense matrices that a decomposition takes.

use super::{FactorError, Setting};
use std::sync::atomic::Ordering;

/// What is left of a column that others span already, against what it was.
const DEPENDENT: f64 = 1e-10;
/// Rotations of a whole matrix; they converge quadratically, in six to ten.
const SWEEPS_MAX: usize = 40;

/// Numbers, a row behind the other.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Matrix {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) numbers: Vec<f64>,
}

impl Matrix {
    pub(super) fn zeros(rows: usize, columns: usize) -> Matrix {
        Matrix { rows, columns, numbers: vec![0.0; rows * columns] }
    }

    pub(super) fn identity(size: usize) -> Matrix {
        let mut made = Matrix::zeros(size, size);
        (0..size).for_each(|at| made.numbers[at * size + at] = 1.0);
        made
    }

    pub(super) fn row(&self, row: usize) -> &[f64] {
        &self.numbers[row * self.columns..][..self.columns]
    }

    pub(super) fn row_mut(&mut self, row: usize) -> &mut [f64] {
        &mut self.numbers[row * self.columns..][..self.columns]
    }

    pub(super) fn transposed(&self) -> Matrix {
        let mut made = Matrix::zeros(self.columns, self.rows);
        for row in 0..self.rows {
            for (column, number) in self.row(row).iter().enumerate() {
                made.numbers[column * self.rows + row] = *number;
            }
        }
        made
    }
}

pub(super) fn product(a: &[f64], b: &[f64]) -> f64 {
    // Sums that do not wait for each other.
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// Adds `factor` times `b`.
pub(super) fn add(a: &mut [f64], factor: f64, b: &[f64]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += factor * b);
}

/// Makes the rows orthogonal and of length one, by Gram and Schmidt, twice, since once leaves what rounding does. Rows that others
/// span become zeros.
pub(super) fn orthonormalise(setting: &Setting<'_>, rows: &mut Matrix) -> Result<(), FactorError> {
    let width = rows.columns;
    for at in 0..rows.rows {
        look(setting)?;
        let (before, rest) = rows.numbers.split_at_mut(at * width);
        let row = &mut rest[..width];
        let was = product(row, row).sqrt();
        for _ in 0..2 {
            for other in before.chunks_exact(width) {
                let along = product(row, other);
                add(row, -along, other);
            }
        }
        let length = product(row, row).sqrt();
        let scale = if length > DEPENDENT * was && length.is_normal() { 1.0 / length } else { 0.0 };
        row.iter_mut().for_each(|number| *number *= scale);
    }
    Ok(())
}

/// Eigenvalues of a symmetric matrix, falling, and the eigenvectors as rows.
///
/// Source: C. G. J. Jacobi, "Über ein leichtes Verfahren, die in der Theorie der Säcularstörungen vorkommenden Gleichungen numerisch
/// aufzulösen" (1846); G. H. Golub and C. F. Van Loan, "Matrix computations", on its cyclic form.
pub(super) fn eigen(setting: &Setting<'_>, mut matrix: Matrix) -> Result<(Vec<f64>, Matrix), FactorError> {
    let size = matrix.rows;
    let mut vectors = Matrix::identity(size);
    let all = product(&matrix.numbers, &matrix.numbers);
    for _ in 0..SWEEPS_MAX {
        let beside: f64 = (0..size).map(|row| product(&matrix.row(row)[..row], &matrix.row(row)[..row])).sum();
        if beside <= all * 1e-28 {
            break;
        }
        for p in 0..size {
            look(setting)?;
            for q in p + 1..size {
                rotate(&mut matrix, &mut vectors, p, q);
            }
        }
    }
    let mut order: Vec<usize> = (0..size).collect();
    let value = |at: usize| matrix.numbers[at * size + at];
    order.sort_by(|a, b| value(*b).total_cmp(&value(*a)));
    let mut sorted = Matrix::zeros(size, size);
    for (to, from) in order.iter().enumerate() {
        sorted.row_mut(to).copy_from_slice(vectors.row(*from));
    }
    Ok((order.into_iter().map(value).collect(), sorted))
}

/// Turns two dimensions so that the matrix has a zero where they meet; the vectors turn with them.
fn rotate(matrix: &mut Matrix, vectors: &mut Matrix, p: usize, q: usize) {
    let size = matrix.rows;
    let at = |row: usize, column: usize| row * size + column;
    let meeting = matrix.numbers[at(p, q)];
    if meeting == 0.0 {
        return;
    }
    let theta = (matrix.numbers[at(q, q)] - matrix.numbers[at(p, p)]) / (2.0 * meeting);
    let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = tangent * cosine;
    for row in 0..size {
        let (a, b) = (matrix.numbers[at(row, p)], matrix.numbers[at(row, q)]);
        matrix.numbers[at(row, p)] = cosine * a - sine * b;
        matrix.numbers[at(row, q)] = sine * a + cosine * b;
    }
    for of in [matrix, vectors] {
        let (first, second) = of.numbers.split_at_mut(q * size);
        let (first, second) = (&mut first[p * size..][..size], &mut second[..size]);
        for (a, b) in first.iter_mut().zip(second) {
            (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
        }
    }
}

pub(super) fn look(setting: &Setting<'_>) -> Result<(), FactorError> {
    if setting.cancelled.load(Ordering::Relaxed) { Err(FactorError::Cancelled) } else { Ok(()) }
}
