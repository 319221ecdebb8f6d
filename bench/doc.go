// Package bench measures the engine as an experiment says and keeps what it
// found: results with every request, a report, and plots.
//
// The Go API of it and of the packages below may change with a minor version,
// which CHANGELOG.md says. Files are kept longer: experiments by their keys,
// results by their schema_version, and the report by its sections and columns.
package bench
