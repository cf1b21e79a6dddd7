//! Bounds on the distance that a scan orders by, from the quals of its plan node: comparisons of the
//! distance, or of something that rises or falls with it, with a value that is the same for all rows.
//!
//! `d < c`, `c > d`, `1 - d >= c`, `-2 * d > c` and `(d, id) > (c, i)` are such quals, whichever of the
//! operators of the index's family makes the distance. A bound is no filter: the executor still evaluates the
//! qual on the rows that are returned, and so a bound may be wider than the qual, but never narrower.

use super::catalog;
use super::scan_node::ScanNode;
use pgrx::{FromDatum, PgList, pg_sys};

/// The server's btree family `float_ops`.
pub const FLOAT_FAMILY: u32 = 1970;
/// Strategies of a btree family.
const LESS: i32 = 1;
const LESS_OR_EQUAL: i32 = 2;
const EQUAL: i32 = 3;
const GREATER_OR_EQUAL: i32 = 4;
const GREATER: i32 = 5;

/// On which side of its value the distance lies; the value itself belongs to both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    AtMost,
    AtLeast,
    Exactly,
}

impl Side {
    fn of_strategy(strategy: i32) -> Option<Side> {
        match strategy {
            LESS | LESS_OR_EQUAL => Some(Side::AtMost),
            EQUAL => Some(Side::Exactly),
            GREATER_OR_EQUAL | GREATER => Some(Side::AtLeast),
            _ => None,
        }
    }

    fn turned(self) -> Side {
        match self {
            Side::AtMost => Side::AtLeast,
            Side::AtLeast => Side::AtMost,
            Side::Exactly => Side::Exactly,
        }
    }
}

/// A bound on a distance.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// The strategy number of the distance's operator in the index's family.
    pub strategy: u16,
    pub side: Side,
    /// The value; None for NULL, which no distance compares with.
    pub value: Option<f64>,
}

/// A number that is the same for all rows, compiled.
#[derive(Clone, Copy)]
struct Number {
    state: *mut pg_sys::ExprState,
    /// Whether it is of type float4, not float8.
    is_single: bool,
}

/// How a side of a comparison is made from the distance: from the outside to the inside.
#[derive(Clone, Copy)]
enum Step {
    /// The negative of it.
    Negated,
    /// It plus a constant.
    Plus(Number),
    /// It minus a constant.
    Minus(Number),
    /// A constant minus it.
    TakenFrom(Number),
    /// It times a constant.
    Times(Number),
    /// It divided by a constant.
    Over(Number),
}

/// Beyond this a number of a comparison is not trusted: the executor rounds what it computes, and a bound
/// must not be narrower than that.
const MAX_VALUE: f64 = 1e4;

impl Step {
    /// Returns whether undoing the step with this constant keeps the digits of a distance.
    fn is_tame(self, constant: f64) -> bool {
        match self {
            Step::Times(_) | Step::Over(_) => (1e-3..=1e3).contains(&constant.abs()),
            _ => constant.abs() <= MAX_VALUE,
        }
    }
}

/// A comparison of a distance with a value, compiled.
struct Comparison {
    strategy: u16,
    side: Side,
    steps: Vec<Step>,
    value: Number,
    distance: *mut pg_sys::Node,
}

impl Comparison {
    /// Returns whether it bounds the distance from above, as far as one knows before constants are evaluated,
    /// which may turn it around.
    fn is_from_above(&self) -> bool {
        let turns = |step: &&Step| matches!(step, Step::Negated | Step::TakenFrom(_));
        let turned = self.steps.iter().filter(turns).count() % 2 == 1;
        (if turned { self.side.turned() } else { self.side }) != Side::AtLeast
    }
}

/// The bounds of a scan's node. What they hold lives as long as the statement.
pub struct Bounds {
    comparisons: Vec<Comparison>,
    context: *mut pg_sys::ExprContext,
}

impl Bounds {
    /// Compiles the bounds of a node; None if there are none.
    pub fn of(node: ScanNode) -> Option<Bounds> {
        // SAFETY: the node lives; what is made lives in the memory of its statement.
        unsafe {
            let state = &raw mut (*node.node).ss.ps;
            let plan = (*state).plan.cast::<pg_sys::IndexScan>();
            let order_bys = PgList::<pg_sys::Node>::from_pg((*plan).indexorderbyorig);
            let distance = distance_of(order_bys.get_ptr(0)?)?;
            let former = pg_sys::MemoryContextSwitchTo((*(*state).state).es_query_cxt);
            let index = (*node.node).iss_RelationDesc;
            let (family, left) = (*(*index).rd_opfamily, *(*index).rd_opcintype);
            let compiler = Compiler { state, family, left, wanted: Wanted::Operands(distance.operands) };
            let quals = PgList::<pg_sys::Node>::from_pg((*plan).scan.plan.qual);
            let comparisons: Vec<Comparison> =
                quals.iter_ptr().filter_map(|qual| compiler.comparison(qual)).collect();
            let bounds = (!comparisons.is_empty())
                .then(|| Bounds { comparisons, context: pg_sys::CreateExprContext((*state).state) });
            pg_sys::MemoryContextSwitchTo(former);
            bounds
        }
    }

    /// Returns the bounds with the values of this moment.
    pub fn now(&self) -> Vec<Bound> {
        self.comparisons.iter().filter_map(|comparison| self.evaluate(comparison)).collect()
    }

    /// Returns the bound of a comparison; None if it says nothing of the distance.
    fn evaluate(&self, comparison: &Comparison) -> Option<Bound> {
        let (strategy, mut side) = (comparison.strategy, comparison.side);
        let Some(mut value) = self.number(comparison.value) else {
            return Some(Bound { strategy, side, value: None });
        };
        for step in &comparison.steps {
            let constant = match step {
                Step::Negated => -1.0,
                Step::Plus(state)
                | Step::Minus(state)
                | Step::TakenFrom(state)
                | Step::Times(state)
                | Step::Over(state) => match self.number(*state) {
                    Some(constant) => constant,
                    None => return Some(Bound { strategy, side, value: None }),
                },
            };
            if !step.is_tame(constant) || value.abs() > MAX_VALUE {
                return None;
            }
            value = match step {
                Step::Negated => -value,
                Step::Plus(_) => value - constant,
                Step::Minus(_) => value + constant,
                Step::TakenFrom(_) => constant - value,
                Step::Times(_) => value / constant,
                Step::Over(_) => value * constant,
            };
            let falls = match step {
                Step::Negated | Step::TakenFrom(_) => true,
                Step::Times(_) | Step::Over(_) => constant < 0.0,
                Step::Plus(_) | Step::Minus(_) => false,
            };
            if falls {
                side = side.turned();
            }
        }
        // Otherwise the executor alone decides.
        (value.abs() <= MAX_VALUE).then_some(Bound { strategy, side, value: Some(value) })
    }

    fn number(&self, number: Number) -> Option<f64> {
        let mut null = true;
        // SAFETY: compiled for the node, and of the type that it says; it has no column of the scan.
        unsafe {
            let value = pg_sys::ExecEvalExprSwitchContext(number.state, self.context, &mut null);
            let value = if number.is_single {
                f32::from_datum(value, null).map(f64::from)
            } else {
                f64::from_datum(value, null)
            };
            pg_sys::MemoryContextReset((*self.context).ecxt_per_tuple_memory);
            value
        }
    }
}

/// Returns whether one of these quals is an upper bound on the distance that a path orders by.
///
/// # Safety
/// All are the planner's, and `index` is that of the path.
pub unsafe fn is_bounded(
    index: *mut pg_sys::IndexOptInfo,
    order_by: *mut pg_sys::Node,
    mut quals: impl Iterator<Item = *mut pg_sys::Node>,
) -> bool {
    // SAFETY: the caller promises live nodes.
    unsafe {
        let Some(distance) = distance_of(order_by) else { return false };
        let compiler = Compiler { wanted: Wanted::Operands(distance.operands), ..Compiler::of_index(index) };
        quals.any(|qual| compiler.comparison(qual).is_some_and(|found| found.is_from_above()))
    }
}

/// Returns whether an expression is a distance of an index's column from something that is the same for all
/// rows.
///
/// # Safety
/// Both are the planner's.
pub unsafe fn is_distance_of(index: *mut pg_sys::IndexOptInfo, expression: *mut pg_sys::Node) -> bool {
    // SAFETY: the caller promises live nodes.
    unsafe { Compiler::of_index(index).strategy(expression).is_some() }
}

/// Returns the distance of an index's column that one of these quals bounds from above.
///
/// # Safety
/// All are the planner's.
pub unsafe fn bounded_distance(
    index: *mut pg_sys::IndexOptInfo,
    mut quals: impl Iterator<Item = *mut pg_sys::Node>,
) -> Option<*mut pg_sys::Node> {
    // SAFETY: the caller promises live nodes.
    unsafe {
        let compiler = Compiler::of_index(index);
        quals.find_map(|qual| {
            compiler.comparison(qual).filter(Comparison::is_from_above).map(|found| found.distance)
        })
    }
}

/// A distance: its operator and its operands.
#[derive(Clone, Copy)]
struct Distance {
    operator: pg_sys::Oid,
    operands: *mut pg_sys::List,
}

/// Which distances are meant.
#[derive(Clone, Copy)]
enum Wanted {
    /// Those of these operands.
    Operands(*mut pg_sys::List),
    /// Those of an index's column from something that is the same for all rows.
    Column(*mut pg_sys::IndexOptInfo),
}

/// Returns the operator and the operands of an operator expression.
///
/// # Safety
/// `node` is a live node.
unsafe fn distance_of(node: *mut pg_sys::Node) -> Option<Distance> {
    // SAFETY: the caller promises a live node; the cast follows a check of the tag.
    unsafe {
        if node.is_null() || (*node).type_ != pg_sys::NodeTag::T_OpExpr {
            return None;
        }
        let call = &*node.cast::<pg_sys::OpExpr>();
        Some(Distance { operator: call.opno, operands: call.args })
    }
}

/// Compiles comparisons with a distance.
struct Compiler {
    /// The scan's node; null while planning, when nothing is compiled.
    state: *mut pg_sys::PlanState,
    /// The index's operator family, and the type of its column.
    family: pg_sys::Oid,
    left: pg_sys::Oid,
    wanted: Wanted,
}

impl Compiler {
    /// # Safety
    /// `index` is the planner's description of an index of one column.
    unsafe fn of_index(index: *mut pg_sys::IndexOptInfo) -> Compiler {
        // SAFETY: the caller promises a live description.
        let (family, left) = unsafe { (*(*index).opfamily, *(*index).opcintype) };
        Compiler { state: std::ptr::null_mut(), family, left, wanted: Wanted::Column(index) }
    }

    /// Compiles a qual that compares with the distance; None for any other.
    ///
    /// # Safety
    /// `qual` is a qual of the node.
    unsafe fn comparison(&self, qual: *mut pg_sys::Node) -> Option<Comparison> {
        // SAFETY: the caller promises a live node; casts follow checks of the tag.
        unsafe {
            let (operator, left, right) = match (*qual).type_ {
                pg_sys::NodeTag::T_OpExpr => {
                    let call = &*qual.cast::<pg_sys::OpExpr>();
                    let operands = PgList::<pg_sys::Node>::from_pg(call.args);
                    (call.opno, operands.get_ptr(0)?, operands.get_ptr(1)?)
                }
                // The first pair decides, or ties.
                pg_sys::NodeTag::T_RowCompareExpr => {
                    let row = &*qual.cast::<pg_sys::RowCompareExpr>();
                    let operator = PgList::<pg_sys::Oid>::from_pg(row.opnos).get_oid(0)?;
                    let (left, right) = (
                        PgList::<pg_sys::Node>::from_pg(row.largs).get_ptr(0)?,
                        PgList::<pg_sys::Node>::from_pg(row.rargs).get_ptr(0)?,
                    );
                    (operator, left, right)
                }
                _ => return None,
            };
            let side = Side::of_strategy(pg_sys::get_op_opfamily_strategy(operator, FLOAT_FAMILY.into()))?;
            self.one_side(left, right, side).or_else(|| self.one_side(right, left, side.turned()))
        }
    }

    /// Compiles `inner side outer`, where `inner` rises or falls with the distance.
    ///
    /// # Safety
    /// Both are expressions of the node.
    unsafe fn one_side(
        &self,
        inner: *mut pg_sys::Node,
        outer: *mut pg_sys::Node,
        side: Side,
    ) -> Option<Comparison> {
        let mut steps = Vec::new();
        // SAFETY: the caller promises live expressions.
        unsafe {
            let (strategy, distance) = self.strip(inner, &mut steps)?;
            let value = self.constant(outer)?;
            Some(Comparison { strategy, side, steps, value, distance })
        }
    }

    /// Takes an expression apart until the distance is left, and returns it and the strategy of its operator.
    ///
    /// # Safety
    /// `node` is an expression of the node.
    unsafe fn strip(
        &self,
        node: *mut pg_sys::Node,
        steps: &mut Vec<Step>,
    ) -> Option<(u16, *mut pg_sys::Node)> {
        // SAFETY: the caller promises a live expression; casts follow checks of the tag.
        unsafe {
            if let Some(strategy) = self.strategy(node) {
                return Some((strategy, node));
            }
            if (*node).type_ != pg_sys::NodeTag::T_OpExpr {
                return None;
            }
            let call = &*node.cast::<pg_sys::OpExpr>();
            let operands = PgList::<pg_sys::Node>::from_pg(call.args);
            let first = operands.get_ptr(0)?;
            let function = call.opfuncid.to_u32();
            if function == pg_sys::F_FLOAT8UM {
                steps.push(Step::Negated);
                return self.strip(first, steps);
            }
            let second = operands.get_ptr(1)?;
            let (inner, constant, turned) = match self.constant(second) {
                Some(constant) => (first, constant, false),
                None => (second, self.constant(first)?, true),
            };
            steps.push(match (function, turned) {
                (pg_sys::F_FLOAT8PL, _) => Step::Plus(constant),
                (pg_sys::F_FLOAT8MI, false) => Step::Minus(constant),
                (pg_sys::F_FLOAT8MI, true) => Step::TakenFrom(constant),
                (pg_sys::F_FLOAT8MUL, _) => Step::Times(constant),
                (pg_sys::F_FLOAT8DIV, false) => Step::Over(constant),
                _ => return None,
            });
            self.strip(inner, steps)
        }
    }

    /// Returns the strategy of an expression that is a wanted distance.
    ///
    /// # Safety
    /// `node` is an expression of the node.
    unsafe fn strategy(&self, node: *mut pg_sys::Node) -> Option<u16> {
        // SAFETY: the caller promises a live expression; the index is open.
        unsafe {
            let Distance { operator, operands } = distance_of(node)?;
            let (first, second) = {
                let operands = PgList::<pg_sys::Node>::from_pg(operands);
                (operands.get_ptr(0)?, operands.get_ptr(1)?)
            };
            let wanted = match self.wanted {
                Wanted::Operands(others) => pg_sys::equal(operands.cast(), others.cast()),
                Wanted::Column(index) => {
                    pg_sys::match_index_to_operand(first, 0, index)
                        && !pg_sys::contain_var_clause(second)
                        && !pg_sys::contain_volatile_functions(second)
                }
            };
            if !wanted {
                return None;
            }
            let right = catalog::operator(operator)?.oprright;
            (1..=3)
                .find(|strategy| {
                    pg_sys::get_opfamily_member(self.family, self.left, right, *strategy) == operator
                })
                .map(|strategy| strategy as u16)
        }
    }

    /// Compiles a number that is the same for all rows of a scan; None for any other expression.
    ///
    /// # Safety
    /// `node` is an expression of the node.
    unsafe fn constant(&self, node: *mut pg_sys::Node) -> Option<Number> {
        // SAFETY: the caller promises a live expression.
        unsafe {
            let kind = pg_sys::exprType(node);
            let is_single = kind == pg_sys::FLOAT4OID;
            let same_for_all = (is_single || kind == pg_sys::FLOAT8OID)
                && !pg_sys::contain_var_clause(node)
                && !pg_sys::contain_volatile_functions(node)
                && !pg_sys::contain_subplans(node);
            let compiled = || {
                if self.state.is_null() {
                    return std::ptr::null_mut();
                }
                pg_sys::ExecInitExpr(node.cast(), self.state)
            };
            same_for_all.then(|| Number { state: compiled(), is_single })
        }
    }
}
