package records

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// topicsStart matches the beginning of a file of TREC topics.
var topicsStart = regexp.MustCompile(`(?is)^\s*(?:<\?xml.*?\?>\s*|<!--.*?-->\s*|<!doctype[^>]*>\s*)*<(?:top|topic|topics)\b`)

// IsTopics reports whether a file that begins with head has TREC topics.
func IsTopics(head []byte) bool { return topicsStart.Match(bytes.TrimPrefix(head, utf8BOM)) }

// topicFields lists the tags that begin a part of a topic. Old topics do not close
// them.
var topicFields = []string{
	"num", "number", "title", "desc", "description", "narr", "narrative", "query", "question", "subtopic",
	"head", "dom", "smry", "con", "fac", "def", "nat", "time", "lang",
}

// topicTag matches a tag with its name and attributes. A "<" before other characters
// is text.
var topicTag = regexp.MustCompile(`<(/?)([A-Za-z][A-Za-z0-9_-]*)((?:\s[^<>]*)?)/?>`)

var (
	topicNumber = regexp.MustCompile(`(?i)\b(?:number|num|id|qid)\s*=\s*["']([^"']*)["']`)
	topicLabel  = regexp.MustCompile(`(?i)^(?:number|topic|title|description|narrative|query)\s*:\s*`)
	onlyDigits  = regexp.MustCompile(`^0*([0-9]+)$`)
)

// A topic is a query with parts.
type topic struct {
	line  int
	parts map[string]string
}

// WriteTopics writes TREC topics as lines with objects: "_id", "query", which is the
// title or else the query, and the parts under the names of their tags. A topic keeps
// its line. WriteTopics returns the bytes that it wrote.
func WriteTopics(w io.Writer, name string, r io.Reader) (int64, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxLine+1))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > maxLine {
		return 0, fmt.Errorf("%s: topics of more than %d MiB; write one query per line", name, maxLine>>20)
	}
	if err := checkAllText(name, text); err != nil {
		return 0, err
	}
	topics, err := parseTopics(string(text))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	out, size, line := bufio.NewWriter(w), 0, 1
	for _, t := range topics {
		object, err := t.object()
		if err != nil {
			return 0, fmt.Errorf("%s: line %d: %w", name, t.line, err)
		}
		blank := max(t.line-line, 0)
		line = max(t.line, line) + 1
		n, err := out.WriteString(strings.Repeat("\n", blank) + string(object) + "\n")
		if size += n; err != nil {
			return 0, err
		}
	}
	return int64(size), out.Flush()
}

// object returns the JSON of a topic.
func (t topic) object() ([]byte, error) {
	o := maps.Clone(t.parts)
	id := t.parts["num"]
	if id == "" {
		id = t.parts["number"]
	}
	if m := onlyDigits.FindStringSubmatch(id); m != nil {
		id = m[1] // qrels have 51 for topic 051
	}
	if id == "" {
		return nil, errors.New("the topic has no number; expected <num> or an attribute number")
	}
	o["_id"] = id
	if title := t.parts["title"]; title != "" {
		o["query"] = title
	}
	if o["query"] == "" {
		return nil, fmt.Errorf("topic %q has no title and no query; found %s", Abridge([]byte(id)), strings.Join(slices.Sorted(maps.Keys(t.parts)), ", "))
	}
	return json.Marshal(o)
}

// parseTopics parses the topics of a file: <top> ... </top>, whose tags need no end,
// or <topic number="1"> ... </topic>.
func parseTopics(text string) ([]topic, error) {
	var topics []topic
	var open *topic
	field, start := "", 0 // the open part and where its text begins
	line, counted := 1, 0
	end := func(at int) {
		if open == nil || field == "" {
			return
		}
		part := strings.Join(strings.Fields(html.UnescapeString(topicTag.ReplaceAllString(text[start:at], " "))), " ")
		part = topicLabel.ReplaceAllString(part, "")
		open.parts[field] = strings.TrimSpace(open.parts[field] + " " + part)
		field = ""
	}
	for _, m := range topicTag.FindAllStringSubmatchIndex(text, -1) {
		closes, name, attributes := m[3] > m[2], strings.ToLower(text[m[4]:m[5]]), text[m[6]:m[7]]
		line, counted = line+strings.Count(text[counted:m[0]], "\n"), m[0]
		item := name == "top" || name == "topic"
		switch {
		case item && !closes && open != nil:
			return nil, fmt.Errorf("line %d: a topic begins inside the topic of line %d; close that with </%s>", line, open.line, name)
		case item && !closes:
			open = &topic{line, make(map[string]string)}
			if number := topicNumber.FindStringSubmatch(attributes); number != nil {
				open.parts["num"] = number[1]
			}
		case item && open != nil:
			end(m[0])
			topics, open = append(topics, *open), nil
		case open != nil && slices.Contains(topicFields, name):
			if end(m[0]); !closes {
				field, start = name, m[1]
			}
		}
	}
	if open != nil {
		return nil, fmt.Errorf("line %d: the topic does not end; is the file truncated?", open.line)
	}
	if len(topics) == 0 {
		return nil, errors.New("no topics; expected <top> <num> Number: 1 <title> ... </top>")
	}
	return topics, nil
}
