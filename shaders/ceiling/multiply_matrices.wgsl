override WG: u32;

const CELLS: u32 = SIDE * SIDE;

// Four left matrices, the right matrix that they are multiplied by, and one sum of each subgroup.
var<workgroup> lefts: array<Number, 4u * CELLS>;
var<workgroup> rights: array<Number, CELLS>;
var<workgroup> done: array<f32, TASKS * CELLS>;

// A task is four sums of products, for one subgroup. The driver decides how many subgroups a workgroup has.
@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    for (var i = lane; i < 4u * CELLS; i += WG) {
        lefts[i] = Number(x[i]);
    }
    for (var i = lane; i < CELLS; i += WG) {
        rights[i] = Number(x[4u * CELLS + i]);
    }
    for (var first = 0u; first < TASKS; first += subgroups) {
        let task = first + subgroup;
        var sums: array<Sum, 4>;
        workgroupBarrier();
        if (task < TASKS) {
            var left: array<Left, 4>;
            for (var i = 0u; i < 4u; i += 1u) {
                left[i] = coopLoadT<Left>(&lefts[i * CELLS], SIDE);
            }
            let right = coopLoad<Right>(&rights[0], SIDE);
            for (var round = 0u; round < params.rounds; round += 1u) {
                for (var i = 0u; i < 4u; i += 1u) {
                    sums[i] = coopMultiplyAdd(left[i], right, sums[i]);
                }
            }
        }
        for (var i = 0u; i < 4u; i += 1u) {
            workgroupBarrier();
            if (task < TASKS) {
                coopStoreT(sums[i], &done[task * CELLS], SIDE);
            }
            workgroupBarrier();
            put(group.x, first, min(first + subgroups, TASKS), i, lane);
        }
    }
}

// Writes sum number `sum` of the tasks from `begin` to before `end`.
fn put(group: u32, begin: u32, end: u32, sum: u32, lane: u32) {
    for (var item = begin * CELLS + lane; item < end * CELLS; item += WG) {
        let task = group * TASKS + item / CELLS;
        y[(4u * task + sum) * CELLS + item % CELLS] = done[item];
    }
}
