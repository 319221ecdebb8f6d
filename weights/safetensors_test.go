package weights

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// file returns a safetensors file with the given header and number of data bytes.
func file(header string, data int) []byte {
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(out, header...), make([]byte, data)...)
}

func TestParseSafetensors(t *testing.T) {
	t.Parallel()
	header := `{"__metadata__":{"format":"pt"},` +
		`"b":{"data_offsets":[4,12],"dtype":"I64","shape":[1]},` +
		`"a":{"dtype":"F16","shape":[1,2],"data_offsets":[0,4]},` +
		`"s":{"dtype":"F32","shape":[],"data_offsets":[12,16]},` +
		`"z":{"dtype":"F32","shape":[0,3],"data_offsets":[12,12]}}   `
	data := file(header, 16)
	for i := range 16 {
		data[len(data)-16+i] = byte(i)
	}
	tensors, err := parseSafetensors(data)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range tensors {
		got = append(got, fmt.Sprintf("%s %s %v %v", x.Name, x.DType, x.Shape, x.Data))
	}
	want := []string{"a F16 [1 2] [0 1 2 3]", "b I64 [1] [4 5 6 7 8 9 10 11]", "z F32 [0 3] []", "s F32 [] [12 13 14 15]"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParseSafetensorsBad(t *testing.T) {
	t.Parallel()
	one := func(fields string) string { return `{"w":{` + fields + `}}` }
	const w = `"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}`
	tests := []struct {
		name string
		file []byte
		want []string
	}{
		{"no length", []byte{1, 2, 3}, []string{"truncated: 3 bytes"}},
		{"huge header", binary.LittleEndian.AppendUint64(nil, 1<<62), []string{"header of 4611686018427387904 bytes"}},
		{"header beyond the file", append(binary.LittleEndian.AppendUint64(nil, 10), "{}"...), []string{"truncated: header of 10 bytes, found 2"}},
		{"empty header", file("", 0), []string{"does not start with a JSON object"}},
		{"space before the header", file(" {}", 0), []string{"does not start"}},
		{"not an object", file(`{"w":3}`, 0), []string{`tensor "w"`, "found a number, expected a JSON object"}},
		{"an array", file(`{"w":[3]}`, 0), []string{`tensor "w"`, "found an array"}},
		{"a string", file(`{"w":"F32"}`, 0), []string{`tensor "w"`, "found a string"}},
		{"a boolean", file(`{"w":true}`, 0), []string{`tensor "w"`, "found a boolean"}},
		{"null", file(`{"w":null}`, 0), []string{`tensor "w"`, "found null"}},
		{"key not a string", file(`{1:{}}`, 0), []string{"not valid JSON"}},
		{"not closed", file(`{"w":{}`, 0), []string{"not valid JSON"}},
		{"not JSON", file(`{"w":`, 0), []string{"not valid JSON"}},
		{"text after the object", file(`{} x`, 0), []string{"not valid JSON", "follows"}},
		{"metadata not strings", file(`{"__metadata__":{"a":1}}`, 0), []string{"__metadata__"}},
		{"duplicate", file(`{`+w+`,`+w+`}`, 8), []string{`"w" occurs twice`}},
		{"duplicate spelt otherwise", file(`{`+w+`,"\u0077":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}`, 16), []string{`"w" occurs twice`}},
		{"duplicate field", file(one(`"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]`), 8), []string{`"dtype" occurs twice`}},
		{"unknown field", file(one(`"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1`), 8), []string{`field "x"`}},
		{"no dtype", file(one(`"shape":[2],"data_offsets":[0,8]`), 8), []string{`unknown dtype ""`}},
		{"unknown dtype", file(one(`"dtype":"Q4","shape":[2],"data_offsets":[0,8]`), 8), []string{`unknown dtype "Q4"`}},
		{"no shape", file(one(`"dtype":"F32","data_offsets":[0,4]`), 4), []string{"shape []"}},
		{"null shape", file(one(`"dtype":"F32","shape":null,"data_offsets":[0,4]`), 4), []string{"shape []"}},
		{"fractional shape", file(one(`"dtype":"F32","shape":[1.5],"data_offsets":[0,4]`), 4), []string{`field "shape"`}},
		{"negative shape", file(one(`"dtype":"F32","shape":[-2],"data_offsets":[0,8]`), 8), []string{"negative"}},
		{"shape overflows", file(one(`"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]`), 0), []string{"overflows"}},
		{"too many dimensions", file(one(`"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]`), 8), []string{"at most 8"}},
		{"half a byte", file(one(`"dtype":"F4","shape":[3],"data_offsets":[0,1]`), 1), []string{"whole number of bytes"}},
		{"no offsets", file(one(`"dtype":"F32","shape":[2]`), 8), []string{"data_offsets []"}},
		{"one offset", file(one(`"dtype":"F32","shape":[2],"data_offsets":[8]`), 8), []string{"data_offsets [8]"}},
		{"negative offset", file(one(`"dtype":"F32","shape":[2],"data_offsets":[-8,0]`), 8), []string{`field "data_offsets"`}},
		{"offsets reversed", file(one(`"dtype":"F32","shape":[2],"data_offsets":[8,0]`), 8), []string{"data_offsets [8 0]"}},
		{"offsets disagree with shape", file(one(`"dtype":"F32","shape":[3],"data_offsets":[0,8]`), 8), []string{"hold 8 bytes, expected 12"}},
		{"offsets beyond the data", file(`{`+w+`}`, 7), []string{`"w"`, "truncated", "up to byte 8, found 7"}},
		{"offsets beyond all", file(one(`"dtype":"U8","shape":[1],"data_offsets":[18446744073709551614,18446744073709551615]`), 1), []string{"truncated"}},
		{"overlap", file(`{`+w+`,"v":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, 12), []string{`"v"`, "overlaps", "begins at byte 4, expected 8"}},
		{"gap", file(`{`+w+`,"v":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}}`, 16), []string{`"v"`, "gap", "begins at byte 12, expected 8"}},
		{"gap at the start", file(one(`"dtype":"F32","shape":[1],"data_offsets":[4,8]`), 8), []string{`"w"`, "gap"}},
		{"bytes after the last", file(`{`+w+`}`, 9), []string{"9 bytes of data, expected 8"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseSafetensors(test.file)
			wantError(t, err, test.want...)
		})
	}
}

// TestParseSafetensorsAllocates checks that the sizes in a header do not
// determine how much memory is allocated.
func TestParseSafetensorsAllocates(t *testing.T) {
	nested := file(`{"w":`+strings.Repeat("[", 1<<16), 0)
	for _, data := range [][]byte{
		nested,
		file(`{"w":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}`, 64),
		append(binary.LittleEndian.AppendUint64(nil, maxHeader), '{'),
	} {
		var err error
		got, most := allocated(func() { _, err = parseSafetensors(data) }), 16*uint64(len(data))+1<<16
		if err == nil {
			t.Errorf("no error for %.40q", data)
		}
		if got > most {
			t.Errorf("%d bytes allocated for a file of %d, want at most %d", got, len(data), most)
		}
	}
}

// TestDamagedSafetensors sets every byte of a small file's header to every value,
// and cuts the file at every length. Each file must parse or give an error,
// within the memory that its own size allows.
func TestDamagedSafetensors(t *testing.T) {
	whole := weightstest.Encode([]weightstest.Tensor{
		weightstest.F32("a", []int{2, 3}, []float32{1, 2, 3, 4, 5, 6}), {Name: "b.bias", DType: "BF16", Shape: []int{4}, Data: make([]byte, 8)},
	})
	header := len(whole) - 32
	parsed := 0
	try := func(data []byte) {
		bounded(t, len(data), 64, func() {
			if _, err := parseSafetensors(data); err == nil {
				parsed++
			}
		})
	}
	for i := range header {
		for value := range 256 {
			data := slices.Clone(whole)
			data[i] = byte(value)
			try(data)
		}
	}
	if parsed < header || parsed > header*64 { // one in 256 is the file itself; few changes keep it valid
		t.Errorf("%d of %d changed files parse", parsed, header*256)
	}
	parsed = 0
	for n := range whole {
		try(whole[:n])
	}
	if parsed > 0 {
		t.Errorf("%d truncated files parse", parsed)
	}
}

func BenchmarkParseSafetensors(b *testing.B) {
	data := weightstest.Encode(weightstest.Tensors(tinySpec()))
	for b.Loop() {
		if _, err := parseSafetensors(data); err != nil {
			b.Fatal(err)
		}
	}
}
