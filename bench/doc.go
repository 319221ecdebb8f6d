// Package bench measures an engine or a server as an experiment describes, and
// writes results with every request, a report, and plots.
//
// The Go API of this package and of the packages below it may change with a minor
// version; CHANGELOG.md lists the changes. Files are stable for longer: the keys
// of experiments, the schema_version of results, and the sections and columns of
// the report.
package bench
