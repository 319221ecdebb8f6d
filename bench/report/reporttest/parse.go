// Package reporttest parses reports for tests: ours and the seed report.
package reporttest

import (
	"fmt"
	"regexp"
	"strings"
)

// A Section is a heading with its text up to the next heading.
type Section struct {
	Level  int
	Title  string
	Fields []string // names of **Name:** values
	Lines  []string // without empty lines and tables
	Tables []Table
}

// A Table is a Markdown table.
type Table struct {
	Header    []string
	Separator string
	Rows      [][]string
}

var field = regexp.MustCompile(`\*\*([^*]+):\*\*`)

// Parse parses a report.
func Parse(text string) ([]Section, error) {
	var sections []Section
	var open *Table
	for n, line := range strings.Split(text, "\n") {
		hashes := len(line) - len(strings.TrimLeft(line, "#"))
		if hashes > 0 {
			sections = append(sections, Section{Level: hashes, Title: strings.TrimSpace(line[hashes:])})
			open = nil
			continue
		}
		if len(sections) == 0 {
			return nil, fmt.Errorf("line %d: %q before the first heading", n+1, line)
		}
		s := &sections[len(sections)-1]
		switch {
		case strings.HasPrefix(line, "|") && open == nil:
			s.Tables = append(s.Tables, Table{Header: cells(line)})
			open = &s.Tables[len(s.Tables)-1]
		case strings.HasPrefix(line, "|") && open.Separator == "":
			open.Separator = line
		case strings.HasPrefix(line, "|"):
			row := cells(line)
			if len(row) != len(open.Header) {
				return nil, fmt.Errorf("line %d: %d cells under a header of %d", n+1, len(row), len(open.Header))
			}
			open.Rows = append(open.Rows, row)
		default:
			open = nil
			if line != "" {
				s.Lines = append(s.Lines, line)
			}
			for _, match := range field.FindAllStringSubmatch(line, -1) {
				s.Fields = append(s.Fields, match[1])
			}
		}
	}
	return sections, nil
}

func cells(line string) []string {
	parts := strings.Split(strings.Trim(line, "|"), "|")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// Find returns the first section with a title, nil if there is none.
func Find(sections []Section, title string) *Section {
	for i := range sections {
		if sections[i].Title == title {
			return &sections[i]
		}
	}
	return nil
}

var digits = regexp.MustCompile(`[0-9]+`)

// Shape replaces the digits of numbers by 9: 280.93 becomes 9.99. One 9 stands for
// all digits before the decimal point.
func Shape(cell string) string {
	at := 0
	out := digits.ReplaceAllStringFunc(cell, func(number string) string {
		start := at + strings.Index(cell[at:], number)
		at = start + len(number)
		if start > 0 && cell[start-1] == '.' {
			return strings.Repeat("9", len(number))
		}
		return "9"
	})
	return strings.TrimPrefix(out, "-")
}
