//! Puts something hostile into a policy that is otherwise as the compiler left it.

use wasm_encoder::{
    BlockType, CodeSection, ComponentExportKind, ComponentExportSection, ComponentInstanceSection, Function,
    FunctionSection, Module, NestedComponentSection, RawSection, RefType, StartSection, TableSection, TableType,
};
use wasmparser::{ExternalKind, Parser, Payload, TypeRef};

const START: u8 = 8;
const EXPORTS: u8 = 7;
const FUNCTIONS: u8 = 3;
const TABLES: u8 = 4;
const CODE: u8 = 10;

/// A function body that never ends.
pub(crate) fn endless() -> Function {
    let mut body = Function::new([]);
    body.instructions().loop_(BlockType::Empty).br(0).end().unreachable().end();
    body
}

/// A function body without any loop that moves memory about for a long while.
pub(crate) fn straight_on() -> Function {
    let mut body = Function::new([]);
    for _ in 0..2_000 {
        body.instructions().i32_const(0).i32_const(0).i32_const(1 << 20).memory_fill(0);
    }
    body.instructions().unreachable().end();
    body
}

/// A function body that asks for a larger table until it is refused, and then does not take no for an answer.
pub(crate) fn table_bomb() -> Function {
    let mut body = Function::new([]);
    body.instructions().loop_(BlockType::Empty);
    body.instructions().ref_null(wasm_encoder::HeapType::FUNC).i32_const(1_000).table_grow(0).drop();
    body.instructions().br(0).end().unreachable().end();
    body
}

/// A function body that asks for more memory until it is refused, likewise.
pub(crate) fn memory_bomb() -> Function {
    let mut body = Function::new([]);
    body.instructions().loop_(BlockType::Empty).i32_const(16).memory_grow(0).drop().br(0).end().unreachable().end();
    body
}

/// A function body that calls its own function, with what it was called with itself.
pub(crate) fn recursion(function: u32, parameters: u32) -> Function {
    let mut body = Function::new([]);
    for parameter in 0..parameters {
        body.instructions().local_get(parameter);
    }
    body.instructions().call(function).unreachable().end();
    body
}

/// What has to be known of a module to change it.
struct Outline {
    /// Section ids and contents, in order.
    sections: Vec<(u8, Vec<u8>)>,
    bodies: Vec<Vec<u8>>,
    imported_functions: u32,
    exported_functions: Vec<(String, u32)>,
    /// Parameters and results of each type.
    types: Vec<(usize, usize)>,
    /// The type of each function that is not imported.
    functions: Vec<u32>,
}

impl Outline {
    fn of(module: &[u8]) -> Outline {
        let mut outline = Outline {
            sections: Vec::new(),
            bodies: Vec::new(),
            imported_functions: 0,
            exported_functions: Vec::new(),
            types: Vec::new(),
            functions: Vec::new(),
        };
        for payload in Parser::new(0).parse_all(module) {
            let payload = payload.unwrap();
            if let Some((id, range)) = payload.as_section() {
                outline.sections.push((id, module[range].to_vec()));
            }
            match payload {
                Payload::TypeSection(types) => {
                    let types = types.into_iter_err_on_gc_types().map(|kind| kind.unwrap());
                    outline.types = types.map(|kind| (kind.params().len(), kind.results().len())).collect();
                }
                Payload::ImportSection(imports) => {
                    let imports = imports.into_imports().filter(|import| {
                        matches!(import.as_ref().unwrap().ty, TypeRef::Func(_) | TypeRef::FuncExact(_))
                    });
                    outline.imported_functions = u32::try_from(imports.count()).unwrap();
                }
                Payload::FunctionSection(functions) => {
                    outline.functions = functions.into_iter().map(|function| function.unwrap()).collect();
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export.unwrap();
                        if export.kind == ExternalKind::Func {
                            outline.exported_functions.push((export.name.to_owned(), export.index));
                        }
                    }
                }
                Payload::CodeSectionEntry(body) => outline.bodies.push(module[body.range()].to_vec()),
                _ => {}
            }
        }
        outline
    }

    fn put(&mut self, function: u32, body: &Function) {
        self.bodies[(function - self.imported_functions) as usize] = body.clone().into_raw_body();
    }

    fn write(&self) -> Vec<u8> {
        let mut module = Module::new();
        let mut functions = FunctionSection::new();
        self.functions.iter().for_each(|kind| {
            functions.function(*kind);
        });
        let mut code = CodeSection::new();
        self.bodies.iter().for_each(|body| {
            code.raw(body);
        });
        for (id, data) in &self.sections {
            match *id {
                FUNCTIONS => module.section(&functions),
                CODE => module.section(&code),
                id => module.section(&RawSection { id, data }),
            };
        }
        module.finish()
    }
}

/// The module with another body for a function that it exports, made from the function's index and the number of its
/// parameters.
pub(crate) fn with_body(module: &[u8], export: &str, body: impl FnOnce(u32, u32) -> Function) -> Vec<u8> {
    let mut outline = Outline::of(module);
    let found = outline.exported_functions.iter().find(|(name, _)| name.contains(export));
    let (_, function) = found.unwrap_or_else(|| panic!("the module has no {export}")).clone();
    let kind = outline.functions[(function - outline.imported_functions) as usize];
    let parameters = u32::try_from(outline.types[kind as usize].0).unwrap();
    outline.put(function, &body(function, parameters));
    outline.write()
}

/// The module with so many functions more that do nothing.
pub(crate) fn with_functions(module: &[u8], count: usize) -> Vec<u8> {
    let mut outline = Outline::of(module);
    let kind = outline.types.iter().position(|kind| *kind == (0, 0)).unwrap();
    outline.functions.resize(outline.functions.len() + count, u32::try_from(kind).unwrap());
    let mut body = Function::new([]);
    body.instructions().end();
    outline.bodies.resize(outline.bodies.len() + count, body.into_raw_body());
    outline.write()
}

/// The module with a start function of this body, which takes some other function's place.
pub(crate) fn with_start(module: &[u8], body: &Function) -> Vec<u8> {
    let mut outline = Outline::of(module);
    let plain = outline.functions.iter().position(|kind| outline.types[*kind as usize] == (0, 0)).unwrap();
    let function_index = outline.imported_functions + u32::try_from(plain).unwrap();
    outline.put(function_index, body);
    let mut whole = Module::new();
    whole.section(&StartSection { function_index });
    // Behind the header, a section's id and the length of its content.
    let data = whole.as_slice()[10..].to_vec();
    let place = outline.sections.iter().position(|(id, _)| *id == EXPORTS).unwrap() + 1;
    outline.sections.insert(place, (START, data));
    outline.write()
}

/// The module with a table that begins with so many entries and may grow without end.
pub(crate) fn with_table(module: &[u8], minimum: u64) -> Vec<u8> {
    let mut outline = Outline::of(module);
    let mut tables = TableSection::new();
    tables.table(TableType { element_type: RefType::FUNCREF, minimum, maximum: None, table64: false, shared: false });
    let mut whole = Module::new();
    whole.section(&tables);
    let data = content(&whole.as_slice()[9..]);
    let place = outline.sections.iter().position(|(id, _)| *id == TABLES).unwrap();
    outline.sections[place].1 = data;
    outline.write()
}

/// What follows a section's length.
fn content(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    bytes[length..].to_vec()
}

/// Where the sections of a module or component end, nested ones included.
pub(crate) fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let payloads = Parser::new(0).parse_all(bytes).map(|payload| payload.unwrap());
    let mut ends: Vec<usize> = payloads
        .filter_map(|payload| Some(payload.as_section()?.1))
        .flat_map(|range| [range.start, range.end])
        .collect();
    ends.extend([0, 4, 8]);
    ends.sort_unstable();
    ends.dedup();
    ends.retain(|end| *end < bytes.len());
    ends
}

/// A component with the right names for its exports, and nothing behind them but components within components, each of
/// which instantiates the next `width` times.
pub(crate) fn nested(depth: u32, width: u32) -> Vec<u8> {
    let mut inner = wasm_encoder::Component::new();
    inner.section(&wasm_encoder::ModuleSection(&Module::new()));
    let mut instances = wasm_encoder::InstanceSection::new();
    instances.instantiate(0, std::iter::empty::<(&str, wasm_encoder::ModuleArg)>());
    inner.section(&instances);
    for _ in 0..depth {
        let mut outer = wasm_encoder::Component::new();
        outer.section(&NestedComponentSection(&inner));
        let mut instances = ComponentInstanceSection::new();
        for _ in 0..width {
            instances.instantiate(0, std::iter::empty::<(&str, ComponentExportKind, u32)>());
        }
        outer.section(&instances);
        inner = outer;
    }
    let mut exports = ComponentExportSection::new();
    for name in ["description", "classifier", "retrying", "tripping"] {
        exports.export(&*format!("spillway:policy/{name}@0.1.0"), ComponentExportKind::Instance, 0, None);
    }
    inner.section(&exports);
    inner.finish()
}

/// A function of many variables that all live through many branches.
pub(crate) fn tangled(locals: u32, blocks: u32) -> Function {
    let mut body = Function::new([(locals, wasm_encoder::ValType::I32)]);
    body.instructions().loop_(BlockType::Empty);
    for block in 0..blocks {
        let local = 1 + block % (locals - 1);
        body.instructions().block(BlockType::Empty).local_get(local).br_if(0);
        body.instructions().local_get(local).i32_const(1).i32_add().local_set(1 + (block * 7) % (locals - 1)).end();
    }
    body.instructions().local_get(1).br_if(0).end().unreachable().end();
    body
}
