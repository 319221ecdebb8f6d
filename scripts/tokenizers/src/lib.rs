// The C interface of github.com/daulet/tokenizers, compiled from the source
// that the Go module of that name carries. Its own Cargo.toml names a git
// dependency; this crate takes every dependency from the crate registry, by
// Cargo.lock. MLXRANK_TOKENIZERS_MODULE is the folder of the Go module.
include!(concat!(env!("MLXRANK_TOKENIZERS_MODULE"), "/src/lib.rs"));
