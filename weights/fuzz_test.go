package weights

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// bounded runs f and checks that it allocates at most factor times size, plus an
// allowance for the test itself.
func bounded(t *testing.T, size, factor int, f func()) {
	t.Helper()
	if got, most := allocated(f), uint64(size*factor+1<<20); got > most {
		t.Errorf("%d bytes allocated for %d bytes of input, want at most %d", got, size, most)
	}
}

// FuzzSafetensors checks that any bytes give either an error or tensors that
// cover the data exactly.
func FuzzSafetensors(f *testing.F) {
	valid := weightstest.Encode([]weightstest.Tensor{
		weightstest.F32("a", []int{2, 1}, []float32{1, 2}), {Name: "b", DType: "F16", Shape: []int{1}, Data: []byte{1, 2}},
	})
	f.Add(valid)
	f.Add(valid[:40])
	f.Add(file(`{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}`, 0))
	f.Add(file(`{"__metadata__":{"format":"pt"},"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}`, 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		var tensors []Tensor
		var err error
		bounded(t, len(data), 64, func() { tensors, err = parseSafetensors(data) })
		if err != nil {
			return
		}
		total := 0
		for _, x := range tensors {
			want, err := byteSize(x)
			if err != nil || want != uint64(len(x.Data)) {
				t.Errorf("tensor %q %s %v has %d bytes, want %d, %v", x.Name, x.DType, x.Shape, len(x.Data), want, err)
			}
			total += len(x.Data)
		}
		if header := len(data) - total; header < 10 || len(tensors) == 0 && total != 0 {
			t.Errorf("%d tensors of %d bytes in a file of %d", len(tensors), total, len(data))
		}
	})
}

// FuzzConfig checks that any bytes give either an error or sizes within bounds.
func FuzzConfig(f *testing.F) {
	config, err := json.Marshal(weightstest.Tiny(8, 2, 2))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.Replace(config, []byte("{"), []byte(`{"model_type":"bert",`), 1))
	f.Add([]byte(`{"model_type":"bert","vocab_size":1e3,"sentence_transformers":{"activation_fn":null}}`))
	for _, model := range tinyModels() {
		data, err := json.Marshal(model.config)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var cfg modelConfig
		var err error
		bounded(t, len(data), 64, func() { cfg, err = parseConfig(data) })
		if err != nil {
			return
		}
		slots := layout(&cfg)
		if n := len(slots); n < 6+8*cfg.Layers || n > 13+16*cfg.Layers {
			t.Errorf("%d slots for %d layers", n, cfg.Layers)
		}
		for _, s := range slots {
			for _, d := range s.shape {
				if d < 1 || d > 1<<22 {
					t.Errorf("%s has shape %v", s.name, s.shape)
				}
			}
		}
	})
}

// FuzzAdapterConfig checks that any bytes give either an error or a positive
// rank for every module.
func FuzzAdapterConfig(f *testing.F) {
	f.Add(builtinAdapterConfig)
	f.Add([]byte(`{"peft_type":"LORA","r":4,"lora_alpha":8,"rank_pattern":{"a|b":2,"c.*":3},"alpha_pattern":{"^x":1.5}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c adapterConfig
		var err error
		bounded(t, len(data), 2048, func() { c, err = parseAdapterConfig(data) })
		if err != nil {
			return
		}
		for _, module := range []string{"", "bert.encoder.layer.0.attention.self.query", "a", "c.d"} {
			if rank := c.rank(module); rank < 1 || rank > maxRank {
				t.Errorf("rank %d of %q", rank, module)
			}
			if scale := c.scale(module); scale != scale {
				t.Errorf("scale of %q is NaN", module)
			}
		}
	})
}

// FuzzTokenizer checks that any bytes give either an error or a vocabulary with
// the same ids as a JSON decoder's.
func FuzzTokenizer(f *testing.F) {
	small, err := json.Marshal(weightstest.Tokenizer(5))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small)
	f.Add(unigramFile(f, nil))
	f.Add(bpeFile(f, nil))
	f.Add([]byte(`{"model":{"type":"WordPiece","vocab":{"\"":1,"\\":2}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var tokenizer Tokenizer
		var err error
		bounded(t, len(data), 64, func() { tokenizer, err = ParseTokenizer(data, 100) })
		if err != nil {
			return
		}
		if tokenizer.Kind == Unigram {
			checkSplit(t, tokenizer, string(data))
			return
		}
		var file, written struct {
			Model struct{ Vocab map[string]int }
		}
		if err := json.Unmarshal(data, &file); err != nil {
			t.Fatalf("the file was accepted, but its vocabulary is invalid: %v", err)
		}
		if err := json.Unmarshal(tokenizer.JSON(), &written); err != nil || !maps.Equal(file.Model.Vocab, written.Model.Vocab) {
			t.Errorf("written vocabulary %v: %v", written.Model.Vocab, err)
		}
		for token, id := range file.Model.Vocab {
			if id < 0 || id >= 100 {
				t.Errorf("token %q has id %d", token, id)
			}
		}
	})
}

// checkSplit checks that the ids of a word belong to tokens.
func checkSplit(t *testing.T, tokenizer Tokenizer, word string) {
	t.Helper()
	ids := tokenizer.Split(strings.ToValidUTF8(word, ""), nil)
	if i := slices.IndexFunc(ids, func(id uint32) bool { return !tokenizer.HasID(int(id)) }); i >= 0 {
		t.Errorf("word %q has the id %d, which no piece has", word, ids[i])
	}
}

// FuzzAdapter checks that any adapter file gives either an error or a merged
// model whose tensors all have the base's shapes.
func FuzzAdapter(f *testing.F) {
	config, err := parseAdapterConfig([]byte(`{"peft_type":"LORA","r":1,"lora_alpha":1}`))
	if err != nil {
		f.Fatal(err)
	}
	spec := tinySpec()
	spec.Config["id2label"] = map[string]any{"0": "a"}
	cfg, err := parseConfig(configWith(f, nil))
	if err != nil {
		f.Fatal(err)
	}
	base := &tensorFile{name: "base"}
	if base.tensors, err = parseSafetensors(weightstest.Encode(weightstest.Tensors(spec))); err != nil {
		f.Fatal(err)
	}
	lora := weightstest.LoRA(spec, 1, 1)
	f.Add(weightstest.Encode(lora))
	f.Add(weightstest.Encode([]weightstest.Tensor{
		weightstest.F32(peftPrefix+"bert.pooler.modules_to_save.default.dense.bias", []int{8}, make([]float32, 8)),
		weightstest.F32(peftPrefix+"bert.pooler.original_module.dense.bias", []int{8}, make([]float32, 8)),
		weightstest.F32(peftPrefix+"bert.pooler.dense.lora_A.weight", []int{1, 8}, make([]float32, 8)),
		weightstest.F32(peftPrefix+"bert.pooler.dense.lora_B.weight", []int{8, 1}, make([]float32, 8)),
	}))
	f.Fuzz(func(t *testing.T, data []byte) {
		tensors, err := parseSafetensors(data)
		if err != nil {
			return
		}
		ad, err := newAdapter(config, &tensorFile{"adapter", tensors}, cfg.arch)
		if err != nil {
			return
		}
		found, err := index([]*tensorFile{base}, cfg.arch)
		if err != nil {
			t.Fatal(err)
		}
		c := cfg
		if err := ad.replace(found, &c); err != nil {
			return
		}
		slots := layout(&c)
		picked, err := pick(slots, found, Quantization{})
		if err != nil {
			return
		}
		merged, mem, err := ad.merge(picked)
		if err != nil {
			return
		}
		for i, e := range merged {
			want := int(elementBits[e.DType]) / 8
			for _, d := range slots[i].shape {
				want *= d
			}
			if e.Name != slots[i].name || !slices.Equal(e.Shape, slots[i].shape) || len(e.Data) != want {
				t.Errorf("%s %v of %d bytes, want %s %v of %d", e.Name, e.Shape, len(e.Data), slots[i].name, slots[i].shape, want)
			}
		}
		if err := mem.close(); err != nil {
			t.Fatal(err)
		}
	})
}
