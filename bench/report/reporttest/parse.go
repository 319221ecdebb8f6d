// Package reporttest reads reports back, ours and the seed's with the same code.
package reporttest

import (
	"fmt"
	"regexp"
	"strings"
)

// A Section is a heading and what stands under it, up to the next heading.
type Section struct {
	Level  int
	Title  string
	Fields []string // names of **Name:** values
	Lines  []string // all lines that are neither empty nor part of a table
	Tables []Table
}

// A Table is a Markdown table.
type Table struct {
	Header    []string
	Separator string
	Rows      [][]string
}

var field = regexp.MustCompile(`\*\*([^*]+):\*\*`)

// Parse reads a report. What is no report is an error.
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

// Find gives the first section of a title, nil if there is none.
func Find(sections []Section, title string) *Section {
	for i := range sections {
		if sections[i].Title == title {
			return &sections[i]
		}
	}
	return nil
}

var digits = regexp.MustCompile(`[0-9]+`)

// Shape replaces numbers by how they are written: 280.93 becomes 9.99. All that
// stands before the decimal point is one 9.
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
