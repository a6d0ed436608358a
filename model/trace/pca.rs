//! Principal component analysis of many states, without their covariance matrix, which at a width of 5280 would take longer to compute than the states
//! themselves.
//!
//! Subspace iteration (Halko, Martinsson and Tropp, arXiv 0909.4061, algorithm 4.4): slightly more directions than requested are multiplied by the covariance,
//! block of rows by block of rows, and orthogonalized, until their variances stop changing. A small eigenvalue problem then sorts them.

use nalgebra::{DMatrix, DMatrixView, SymmetricEigen};
use rayon::prelude::*;

/// Additional directions, which make the iteration converge faster.
const SPARE: usize = 6;
/// Maximum products with the covariance.
const ROUNDS: usize = 40;
/// Relative change of the variances below which the iteration has converged.
const STILL: f64 = 1e-7;
/// Rows per block. The order of sums does not depend on the number of threads.
const ROWS: usize = 64;

/// Directions in which states vary most, and the states in these coordinates.
#[derive(Clone, Debug)]
pub struct Pca {
    /// Number of components: fewer than requested if there are fewer states or dimensions.
    pub components: usize,
    /// Coordinates of the states, `[states, components]`, relative to the mean state.
    pub coordinates: Vec<f32>,
    /// Fraction of the total variance along each component, `[components]`, in descending order.
    pub explained: Vec<f32>,
    /// Components as unit vectors, `[components, width]`; the value of largest magnitude in each is positive.
    pub directions: Vec<f32>,
    /// Mean state, `[width]`.
    pub mean: Vec<f32>,
}

impl Pca {
    /// Analyzes states, `[states, width]`.
    #[must_use]
    pub fn of(states: &[f32], width: usize, components: usize) -> Self {
        let rows = states.len() / width.max(1);
        let components = components.min(width).min(rows);
        let centered = Centered::new(states, width);
        let count = (components + SPARE).min(width);
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut basis = DMatrix::from_fn(width, count, |_, _| random.next()).qr().q();
        let mut variances = vec![0.0; components];
        for _ in 0..ROUNDS {
            basis = centered.covariance_times(&basis).qr().q();
            let now = centered.project(&basis).1;
            let change = now.iter().zip(&variances).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            let largest = now.first().copied().unwrap_or(0.0);
            variances.copy_from_slice(&now[..components]);
            if change <= STILL * largest {
                break;
            }
        }
        let (turn, found) = centered.project(&basis);
        let mut directions = (basis * turn).columns(0, components).into_owned();
        for mut direction in directions.column_iter_mut() {
            let largest = direction.iter().copied().fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
            direction *= if largest < 0.0 { -1.0 } else { 1.0 };
        }
        let total = centered.variance().max(f64::MIN_POSITIVE);
        Self {
            components,
            coordinates: centered.times(&directions).iter().map(|&x| x as f32).collect(),
            explained: found[..components].iter().map(|&variance| (variance / total) as f32).collect(),
            directions: directions.as_slice().iter().map(|&x| x as f32).collect(),
            mean: centered.mean.iter().map(|&x| x as f32).collect(),
        }
    }
}

/// States relative to their mean.
struct Centered<'a> {
    states: &'a [f32],
    width: usize,
    mean: Vec<f64>,
}

impl<'a> Centered<'a> {
    fn new(states: &'a [f32], width: usize) -> Self {
        let mut mean = vec![0.0; width];
        for state in states.chunks(width) {
            mean.iter_mut().zip(state).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let rows = (states.len() / width.max(1)).max(1) as f64;
        mean.iter_mut().for_each(|sum| *sum /= rows);
        Self { states, width, mean }
    }

    /// Blocks of rows as matrices, `[width, rows]`; each column is a state.
    fn blocks(&self) -> impl IndexedParallelIterator<Item = DMatrix<f64>> {
        self.states.par_chunks(ROWS * self.width).map(|block| {
            let rows = block.len() / self.width;
            let block = DMatrixView::from_slice(block, self.width, rows);
            DMatrix::from_fn(self.width, rows, |i, row| f64::from(block[(i, row)]) - self.mean[i])
        })
    }

    /// Sum of x (xᵀ basis) over all states, `[width, count]`.
    fn covariance_times(&self, basis: &DMatrix<f64>) -> DMatrix<f64> {
        let parts: Vec<_> = self.blocks().map(|block| &block * block.tr_mul(basis)).collect();
        parts.iter().fold(DMatrix::zeros(self.width, basis.ncols()), |sum, part| sum + part)
    }

    /// Rotation of a basis along which the states are uncorrelated, and their variances (times the number of states) in descending order.
    fn project(&self, basis: &DMatrix<f64>) -> (DMatrix<f64>, Vec<f64>) {
        let parts: Vec<_> = self.blocks().map(|block| block.tr_mul(basis)).map(|x| x.tr_mul(&x)).collect();
        let count = basis.ncols();
        let eigen = SymmetricEigen::new(parts.iter().fold(DMatrix::zeros(count, count), |sum, part| sum + part));
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        let turn = eigen.eigenvectors.select_columns(&order);
        (turn, order.iter().map(|&at| eigen.eigenvalues[at].max(0.0)).collect())
    }

    /// Coordinates of the states along directions, `[states, count]`, row by row.
    fn times(&self, directions: &DMatrix<f64>) -> Vec<f64> {
        // Matrices are stored by columns, and each column is one state.
        self.blocks().map(|block| directions.tr_mul(&block)).collect::<Vec<_>>().iter().flatten().copied().collect()
    }

    fn variance(&self) -> f64 {
        self.blocks().map(|block| block.norm_squared()).collect::<Vec<_>>().iter().sum()
    }
}

/// Pseudorandom numbers for the initial basis (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    }
}

#[cfg(test)]
mod tests {
    use super::Pca;

    /// Points along three orthogonal directions of known variance, with an offset.
    #[test]
    fn known_directions_are_found_in_order_of_their_variance() {
        const WIDTH: usize = 50;
        let mut states = Vec::new();
        for at in 0..300 {
            let (a, b, c) = ((at as f32).sin() * 9.0, (at as f32 * 2.3).sin() * 3.0, (at as f32 * 0.7).cos());
            let mut state = vec![2.0; WIDTH];
            state[10] += a;
            state[20] += b * 0.6;
            state[30] += b * 0.8;
            state[40] -= c;
            states.extend(state);
        }
        let pca = Pca::of(&states, WIDTH, 3);
        let direction = |component: usize| &pca.directions[component * WIDTH..][..WIDTH];
        assert!((direction(0)[10] - 1.0).abs() < 1e-2, "{:?}", direction(0));
        assert!((direction(1)[20] - 0.6).abs() < 2e-2 && (direction(1)[30] - 0.8).abs() < 2e-2, "{:?}", direction(1));
        assert!((direction(2)[40] - 1.0).abs() < 1e-2, "{:?}", direction(2));
        assert!(pca.explained.is_sorted_by(|a, b| a >= b) && (pca.explained.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        // Mean and coordinates reproduce the states.
        for (state, at) in states.chunks(WIDTH).zip(pca.coordinates.chunks(3)) {
            for (i, &x) in state.iter().enumerate() {
                let sum: f32 = (0..3).map(|component| at[component] * direction(component)[i]).sum();
                assert!((pca.mean[i] + sum - x).abs() < 1e-3, "{} is not {x}", pca.mean[i] + sum);
            }
        }
    }

    #[test]
    fn fewer_states_than_components_are_no_trouble() {
        let pca = Pca::of(&[1.0, 2.0, 3.0, 1.0, 2.0, 5.0], 3, 6);
        assert_eq!((pca.components, pca.coordinates.len()), (2, 4));
        assert!((pca.explained[0] - 1.0).abs() < 1e-6 && (pca.directions[2].abs() - 1.0).abs() < 1e-6);
        let still = Pca::of(&[1.0; 12], 3, 2);
        assert!(still.coordinates.iter().chain(&still.explained).all(|x| x.is_finite()), "{still:?}");
    }
}
