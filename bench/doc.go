// Package bench measures the engine as an experiment says and keeps what it
// found: results with every request, a report, and plots.
package bench
