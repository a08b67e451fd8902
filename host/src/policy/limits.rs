//! How large a policy may be: an ordinary one, and one that carries an interpreter.

/// What a policy's file may be, and what each of its instances may take. What does not depend on its size, above all
/// how long a call may run, is the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Bytes of its file. Compilation cannot be interrupted, so its input is bounded.
    pub(crate) file_bytes: u64,
    /// What compilation may cost, by the measure of what is worst for the compiler: a hundred million takes it from a
    /// tenth of a second to a second and a half. It cannot be interrupted.
    pub(crate) compile_cost: u64,
    /// Functions in it. Each takes the compiler 6 to 12 KB of memory, however short it is.
    pub(crate) functions: u64,
    /// Bytes of memory of one instance. Each worker that asks the policy has an instance.
    pub(crate) memory_bytes: usize,
    /// Core instances in its component.
    pub(crate) core_instances: usize,
}

impl Limits {
    /// Of a policy that was compiled to WebAssembly. One in Rust has some tens of kilobytes, costs 4 to 9 million, has
    /// 200 functions, starts with 1.1 MiB of memory, nearly all of it stack, and is four instances, which the encoder
    /// makes of it. There is room for 2 MB of code in small functions, or for one function of 125 KB.
    pub const STANDARD: Limits = Limits {
        file_bytes: 16 << 20,
        compile_cost: 1 << 28,
        functions: 25_000,
        memory_bytes: 16 << 20,
        core_instances: 32,
    };

    /// Of a policy that carries an interpreter. JavaScript's has 12 MB, costs 3.3 thousand million, has 13,000
    /// functions and comes to 18 MiB of memory; Python's has 18 MB, costs 4.8 thousand million, has 14,000 functions,
    /// starts with 12 MiB and is more than 32 instances. There is room for nearly twice as much or more, for what is
    /// imported into either. Each takes half a minute at most to compile; what is made to take as long as it can may
    /// take two.
    pub const INTERPRETED: Limits = Limits {
        file_bytes: 40 << 20,
        compile_cost: 1 << 33,
        functions: 100_000,
        memory_bytes: 64 << 20,
        core_instances: 128,
    };
}
