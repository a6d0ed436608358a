// One number for each head of the workgroup.
struct PerHead {
    lo: vec4<f32>,
    hi: vec4<f32>,
}

// A quad: with chunks of eight, the sums of eight heads would take too many registers.
alias Piece = vec4<f32>;

const PIECES_OF_CHUNK: u32 = 2u;
const FEW_HEADS: bool = false;

fn piece_at(place: u32, piece: u32) -> Piece {
    return value_quad(place, piece);
}

fn piece_of(v: Eight, piece: u32) -> Piece {
    return select(v.lo, v.hi, piece % 2u == 1u);
}

fn hold(lane: u32, v: Piece, center: f32) {
    held[lane] = v - center;
}

struct Sums {
    a: Piece,
    b: Piece,
    c: Piece,
    d: Piece,
    e: Piece,
    f: Piece,
    g: Piece,
    h: Piece,
}

fn nothing() -> PerHead {
    return PerHead(vec4(0.0), vec4(0.0));
}

fn lowest() -> PerHead {
    return PerHead(vec4(LOWEST), vec4(LOWEST));
}

fn larger(a: PerHead, b: PerHead) -> PerHead {
    return PerHead(max(a.lo, b.lo), max(a.hi, b.hi));
}

fn exp_of(a: PerHead, largest: PerHead) -> PerHead {
    return PerHead(exp(a.lo - largest.lo), exp(a.hi - largest.hi));
}

fn sum_of(a: PerHead, b: PerHead) -> PerHead {
    return PerHead(a.lo + b.lo, a.hi + b.hi);
}

fn product_of(a: PerHead, b: PerHead) -> PerHead {
    return PerHead(a.lo * b.lo, a.hi * b.hi);
}

fn scaled_by(a: PerHead, factor: f32) -> PerHead {
    return PerHead(a.lo * factor, a.hi * factor);
}

// Adds the products of a chunk of every head's query with that chunk of a key.
fn with_chunk(sum: PerHead, line: u32, key: Eight) -> PerHead {
    let lo = vec4(
        with_eight(sum.lo.x, query(line, 0u), key),
        with_eight(sum.lo.y, query(line, 1u), key),
        with_eight(sum.lo.z, query(line, 2u), key),
        with_eight(sum.lo.w, query(line, 3u), key),
    );
    let hi = vec4(
        with_eight(sum.hi.x, query(line, 4u), key),
        with_eight(sum.hi.y, query(line, 5u), key),
        with_eight(sum.hi.z, query(line, 6u), key),
        with_eight(sum.hi.w, query(line, 7u), key),
    );
    return PerHead(lo, hi);
}

fn rescaled(sums: Sums, kept: PerHead) -> Sums {
    return Sums(
        sums.a * kept.lo.x,
        sums.b * kept.lo.y,
        sums.c * kept.lo.z,
        sums.d * kept.lo.w,
        sums.e * kept.hi.x,
        sums.f * kept.hi.y,
        sums.g * kept.hi.z,
        sums.h * kept.hi.w,
    );
}

fn with_value(sums: Sums, weight: PerHead, v: Piece) -> Sums {
    return Sums(
        fma(v, vec4(weight.lo.x), sums.a),
        fma(v, vec4(weight.lo.y), sums.b),
        fma(v, vec4(weight.lo.z), sums.c),
        fma(v, vec4(weight.lo.w), sums.d),
        fma(v, vec4(weight.hi.x), sums.e),
        fma(v, vec4(weight.hi.y), sums.f),
        fma(v, vec4(weight.hi.z), sums.g),
        fma(v, vec4(weight.hi.w), sums.h),
    );
}

fn largest_of_all(at: Lane, v: PerHead) -> PerHead {
    return PerHead(reduce_max4(at, v.lo), reduce_max4(at, v.hi));
}

fn sum_of_all(at: Lane, v: PerHead) -> PerHead {
    return PerHead(reduce_sum4(at, v.lo), reduce_sum4(at, v.hi));
}

fn put_heads(at: Lane, sums: Sums, factor_sum: PerHead, largest: PerHead, weight_sum: PerHead) {
    put_head(at, 0u, sums.a, factor_sum.lo.x, largest.lo.x, weight_sum.lo.x);
    put_head(at, 1u, sums.b, factor_sum.lo.y, largest.lo.y, weight_sum.lo.y);
    put_head(at, 2u, sums.c, factor_sum.lo.z, largest.lo.z, weight_sum.lo.z);
    put_head(at, 3u, sums.d, factor_sum.lo.w, largest.lo.w, weight_sum.lo.w);
    put_head(at, 4u, sums.e, factor_sum.hi.x, largest.hi.x, weight_sum.hi.x);
    put_head(at, 5u, sums.f, factor_sum.hi.y, largest.hi.y, weight_sum.hi.y);
    put_head(at, 6u, sums.g, factor_sum.hi.z, largest.hi.z, weight_sum.hi.z);
    put_head(at, 7u, sums.h, factor_sum.hi.w, largest.hi.w, weight_sum.hi.w);
}
