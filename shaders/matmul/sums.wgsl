// Accumulators of a lane: four rows of W times the rows of x.
struct Sums {
    a: Sum,
    b: Sum,
    c: Sum,
    d: Sum,
}
