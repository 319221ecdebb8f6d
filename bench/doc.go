// Package bench measures the engine as an experiment says and keeps what it
// found: results with every request, a report, and plots.
//
// It and the packages below are parts of the program mlxrank: their Go API may
// change with any version. What is kept is what they read and write: the keys of
// experiments, and results, whose schema_version tells one layout from another.
package bench
