//! What the planner makes of small structures.

use super::*;

fn unary(from: Source, visible: bool) -> Item {
    let args = SmallVec::from_elem(PlanArg::Operand(0), 1);
    let kind = Kind::Apply { op: Elementwise::exp, dtype: DType::F32, args };
    Item { kind, sources: SmallVec::from_elem(from, 1), space: 0, visible }
}

fn binary(a: Source, b: Source) -> Item {
    let args = SmallVec::from_slice(&[PlanArg::Operand(0), PlanArg::Operand(1)]);
    let kind = Kind::Apply { op: Elementwise::add, dtype: DType::F32, args };
    Item { kind, sources: SmallVec::from_slice(&[a, b]), space: 0, visible: true }
}

fn inside(node: u32, whole: bool) -> Source {
    Source::Inside { place: 10 * node + 1 + whole as u32, node, whole }
}

fn reduction(node: u32) -> Item {
    let sources = SmallVec::from_elem(inside(node, true), 1);
    Item { kind: Kind::Mapped { dtype: DType::F32 }, sources, space: 0, visible: true }
}

fn product() -> Item {
    let sources = SmallVec::from_slice(&[Source::Outside { place: 1 }, Source::Outside { place: 2 }]);
    Item { kind: Kind::Product { dtype: DType::F32 }, sources, space: 0, visible: false }
}

fn names(plan: &Plan) -> Vec<String> {
    let name = |task: &Task| match task {
        Task::Node(node) => format!("node {node}"),
        Task::Pointwise(chain) => format!("pointwise {:?} -> {:?}", chain.members, chain.outputs),
        Task::Prologue { node, chain } => format!("prologue {:?} of {node}", chain.members),
        Task::Epilogue { node, chain } => format!("epilogue {:?} of {node}", chain.members),
    };
    plan.tasks.iter().map(name).collect()
}

#[test]
fn chains_join_and_write_what_is_visible() {
    let outside = Source::Outside { place: 1 };
    let items = [unary(outside, false), unary(inside(0, true), true), unary(inside(1, true), true)];
    assert_eq!(names(&plan(&items, true)), ["pointwise [0, 1, 2] -> [1, 2]"]);
    assert_eq!(plan(&items, false).tasks.len(), 3);
}

#[test]
fn a_member_read_out_of_order_is_written_first() {
    let items = [unary(Source::Outside { place: 1 }, false), binary(inside(0, true), inside(0, false))];
    assert_eq!(names(&plan(&items, true)), ["pointwise [0] -> [0]", "pointwise [1] -> [1]"]);
}

#[test]
fn no_path_leaves_a_group_and_returns() {
    let items =
        [unary(Source::Outside { place: 1 }, true), reduction(0), binary(inside(0, true), inside(1, false))];
    assert_eq!(names(&plan(&items, true)), ["pointwise [0] -> [0]", "node 1", "pointwise [2] -> [2]"]);
}

#[test]
fn groups_that_meet_become_one() {
    // Two chains of their own, and what takes both: an optimizer's two means and its step.
    let outside = Source::Outside { place: 1 };
    let items = [unary(outside, false), unary(outside, true), binary(inside(0, true), inside(1, true))];
    assert_eq!(names(&plan(&items, true)), ["pointwise [0, 1, 2] -> [1, 2]"]);
}

#[test]
fn groups_with_a_kernel_between_them_do_not_meet() {
    let outside = Source::Outside { place: 1 };
    // 0 -> the reduction 1 -> 2, which reads both, beside a chain 3 that reads 0 in order and 2.
    let items = [
        unary(outside, true),
        reduction(0),
        binary(outside, inside(1, false)),
        binary(inside(2, true), inside(0, true)),
    ];
    assert_eq!(names(&plan(&items, true)), ["pointwise [0] -> [0]", "node 1", "pointwise [2, 3] -> [2, 3]"]);
}

#[test]
fn chains_become_prologues_and_epilogues() {
    let items = [unary(Source::Outside { place: 1 }, false), reduction(0)];
    assert_eq!(names(&plan(&items, true)), ["prologue [0] of 1"]);
    let items = [product(), unary(inside(0, true), false), unary(inside(1, true), true)];
    assert_eq!(names(&plan(&items, true)), ["epilogue [1, 2] of 0"]);
}

#[test]
fn constants_become_scalars() {
    let fill =
        Item { kind: Kind::Fill { dtype: DType::F32 }, sources: SmallVec::new(), space: 0, visible: false };
    let items = [fill, binary(Source::Outside { place: 1 }, inside(0, true))];
    let plan = plan(&items, true);
    assert_eq!(names(&plan), ["pointwise [1] -> [1]"]);
    let Task::Pointwise(chain) = &plan.tasks[0] else { panic!("a chain") };
    assert_eq!(chain.scalars, [ScalarRef::Fill { node: 0 }]);
}
