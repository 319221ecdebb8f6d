package records

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestAppendScore(t *testing.T) {
	for _, test := range []struct{ object, want string }{
		{`{"query":"q","document":"d"}`, `{"query":"q","document":"d", "score": 0.5}`},
		{` { "b" : 1 , "a" : [ {} ] } `, ` { "b" : 1 , "a" : [ {} ] , "score": 0.5} `},
		{"{\"a\":\"}\"}\r", "{\"a\":\"}\", \"score\": 0.5}\r"},
		{`{"a":1e400,"a":"\u00e9\ud800","é":{"score":1}}`, `{"a":1e400,"a":"\u00e9\ud800","é":{"score":1}, "score": 0.5}`},
	} {
		if got := appendFields([]byte("x"), []byte(test.object), `, "score": 0.5`); string(got) != "x"+test.want {
			t.Errorf("got %s, want x%s", got, test.want)
		}
	}
}

func TestReplaceScore(t *testing.T) {
	for _, test := range []struct{ object, want string }{
		{`{"score":1}`, `{"score":0.5}`},
		{` { "a" : [ {"score": 1} ] , "score" : {"score": [1, "}"]} , "b":1 } `, ` { "a" : [ {"score": 1} ] , "score" : 0.5 , "b":1 } `},
		{`{"score":null,"b":"\"score\":1","\u0073core":"\u0073"}`, `{"score":0.5,"b":"\"score\":1","\u0073core":0.5}`},
		{"{\"score\"\t:\t-1e400\r,\"a\":1}\r", "{\"score\"\t:\t0.5\r,\"a\":1}\r"},
		{`{"b":1}`, `{"b":1}`},
	} {
		got, err := replaceScore([]byte("x"), []byte(test.object), []byte("0.5"))
		if err != nil || string(got) != "x"+test.want {
			t.Errorf("got %s, %v, want x%s", got, err, test.want)
		}
	}
}

// TestReplaceScoreProperty adds a score and replaces it by another.
func TestReplaceScoreProperty(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 3000 {
		pair := randomPair(r)
		first, want := appendFields(nil, pair, `, "score": "é}"`), appendFields(nil, pair, `, "score": -4.25`)
		got, err := replaceScore(nil, first, []byte("-4.25"))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("got %s, %v, want %s", got, err, want)
		}
	}
}

// TestAppendScoreProperty adds a score to random pairs and checks that every
// byte of the line is kept, and that a JSON reader finds the score.
func TestAppendScoreProperty(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		checkPassThrough(t, randomPair(r))
		if t.Failed() {
			return
		}
	}
}

// parsePair reads a line of JSONL.
func parsePair(line []byte, score ScorePolicy) (Record, error) {
	r := Record{Text: line}
	err := jsonl{score: score}.parse(&r)
	return r, err
}

func checkPassThrough(t *testing.T, line []byte) {
	t.Helper()
	if _, err := parsePair(line, RefuseScore); err != nil {
		t.Errorf("%s: %v", line, err)
		return
	}
	scored := appendFields(nil, line, `, "score": -4.25`)
	const added = `, "score": -4.25`
	at := bytes.LastIndex(scored, []byte(added))
	if at < 0 || string(scored[:at])+string(scored[at+len(added):]) != string(line) {
		t.Errorf("bytes changed:\n%s\n%s", line, scored)
		return
	}
	var before, after map[string]json.RawMessage
	for text, into := range map[*[]byte]*map[string]json.RawMessage{&line: &before, &scored: &after} {
		if err := json.Unmarshal(*text, into); err != nil {
			t.Errorf("%s: %v", *text, err)
			return
		}
	}
	before["score"] = json.RawMessage("-4.25")
	if got, want := fmt.Sprint(after), fmt.Sprint(before); got != want {
		t.Errorf("fields changed:\n got %s\nwant %s", got, want)
	}
}

// randomPair returns a JSON object with the fields of a pair and others, in random
// order, spacing and escaping. Names may appear twice.
func randomPair(r *rand.Rand) []byte {
	space := func() string { return []string{"", "", " ", "\t", "  "}[r.IntN(5)] }
	members := []string{
		`"query"` + space() + ":" + randomString(r), `"document":` + space() + randomString(r),
	}
	if r.IntN(3) == 0 {
		members = append(members, `"que\u0072y":`+randomString(r))
	}
	for range r.IntN(6) {
		members = append(members, randomString(r)+space()+":"+space()+randomValue(r, 3))
	}
	r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	comma := space() + "," + space()
	return []byte(space() + "{" + space() + strings.Join(members, comma) + space() + "}" + space())
}

func randomValue(r *rand.Rand, depth int) string {
	switch n := r.IntN(8); {
	case n < 2 && depth > 0:
		var items []string
		for range r.IntN(4) {
			items = append(items, randomValue(r, depth-1))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case n < 4 && depth > 0:
		var items []string
		for range r.IntN(4) {
			items = append(items, randomString(r)+":"+randomValue(r, depth-1))
		}
		return "{ " + strings.Join(items, ",") + "}"
	case n < 6:
		return randomString(r)
	}
	return []string{"null", "true", "-0", "1E400", "0.1000", "12345678901234567890", `{"score":1}`}[r.IntN(7)]
}

func randomString(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(6) {
		b.WriteString([]string{"a", "é", "\u2028", "😀", `\"`, `\\`, `\/`, `\n`, `\u00e9`, `\ud83d\ude00`, `\ud800`, "}", "{", ",", ":", "\x7f", "\xff", `\u0000`}[r.IntN(18)])
	}
	return `"` + b.String() + `"`
}

func TestParsePairErrors(t *testing.T) {
	for _, test := range []struct {
		name, line string
		want       []string
	}{
		{"text", "hello", []string{"not a JSON object", `'h'`, `{"query": "...", "document": "..."}`}},
		{"array", `[{"query":"q"}]`, []string{"not a JSON object", `'['`}},
		{"truncated", `{"query":"q","docu`, []string{"malformed JSON at byte 18", "unexpected end"}},
		{"single quotes", `{'query':'q'}`, []string{"malformed JSON at byte 2", `'\''`}},
		{"two objects", `{"query":"q","document":"d"}{}`, []string{"malformed JSON at byte 29"}},
		{"too deep", `{"a":` + strings.Repeat("[", 20000), []string{"malformed JSON", "depth"}},
		{"no query", `{"document":"d"}`, []string{`field "query" is missing`}},
		{"case matters", `{"Query":"q","document":"d"}`, []string{`field "query" is missing`}},
		{"no document", `{"query":"q"}`, []string{`fields "document" and "text" are missing`}},
		{"null", `{"query":null,"document":"d"}`, []string{`field "query" is not a string: null`}},
		{"number", `{"query":"q","document":12}`, []string{`field "document" is not a string: 12`}},
		{"long list", `{"query":"q","document":[` + strings.Repeat("1,", 100) + `1]}`, []string{`field "document" is not a string: [1,1,`, "..."}},
		{"scored", `{"query":"q","document":"d","score":null}`, []string{`field "score" exists already`, "rename or remove"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parsePair([]byte(test.line), RefuseScore)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
			if len(err.Error()) > 300 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestParsePair(t *testing.T) {
	for _, test := range []struct{ line, query, document string }{
		{`{"query":"q","document":"d"}`, "q", "d"},
		{`{"document":"","x":[1],"query":"\u00e9\n\u0000"}`, "é\n\x00", ""},
		{`{"query":"first","document":"d","\u0071uery":"last"}`, "last", "d"},
		{"{\"query\":\"a\xffb\",\"document\":\"\\ud800\"}", "a\ufffdb", "\ufffd"},
	} {
		got, err := parsePair([]byte(test.line), RefuseScore)
		if err != nil || got.Query != test.query || got.Document != test.document {
			t.Errorf("%s: got %+v, %v, want %q and %q", test.line, got, err, test.query, test.document)
		}
	}
	// Who does not write scores takes lines that have them.
	for _, line := range []string{`{"query":"q","document":"d","score":1}`, `{"query":"q","document":"d","":1}`} {
		if _, err := parsePair([]byte(line), IgnoreScore); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}
