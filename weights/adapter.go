package weights

import (
	"fmt"
	"path/filepath"
	"strings"
)

const (
	adapterConfigFile = "adapter_config.json"
	adapterFile       = "adapter_model.safetensors"
	peftPrefix        = "base_model.model."
)

// An adapter is a PEFT LoRA adapter: low-rank updates of weights, and tensors
// that replace tensors of the base (modules_to_save and trained biases).
type adapter struct {
	name    string // of the file of its tensors, for errors
	config  adapterConfig
	arch    *architecture      // of the base
	updates map[string]*update // by the canonical name of the weight
	whole   []entry            // replacements, named as in the file without peftPrefix
}

// An update adds scale * b@a to a weight of shape [out, in], where a is
// [rank, in] and b is [out, rank].
type update struct {
	module string // the adapter's name for it, which its patterns match
	a, b   entry
}

// loadAdapter reads the adapter of m from its directory, or the embedded one.
func (m *Model) loadAdapter(arch *architecture) (*adapter, error) {
	config, file := builtinAdapterConfig, &tensorFile{name: "builtin adapter"}
	configPath := file.name + ": " + adapterConfigFile
	var err error
	if m.Adapter == Builtin {
		if file.tensors, err = parseSafetensors(builtinAdapterWeights); err != nil {
			return nil, fmt.Errorf("%s: %w", file.name, err)
		}
	} else {
		if err := checkDir(m.Adapter); err != nil {
			return nil, fmt.Errorf("adapter %q: %w", m.Adapter, err)
		}
		configPath = filepath.Join(m.Adapter, adapterConfigFile)
		if config, err = readSmall(configPath, maxAdapterConfig); err != nil {
			hint := "every PEFT adapter needs one"
			if exists(m.Adapter, configFile) {
				hint += "; the directory holds a whole model: give it as the model, not as the adapter"
			}
			return nil, missingFile(configPath, err, hint)
		}
		if file, err = m.mapFile(filepath.Join(m.Adapter, adapterFile)); err != nil {
			return nil, err
		}
	}
	c, err := parseAdapterConfig(config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", configPath, err)
	}
	return newAdapter(c, file, arch)
}

// newAdapter sorts the tensors of an adapter into updates and replacements.
func newAdapter(c adapterConfig, file *tensorFile, arch *architecture) (*adapter, error) {
	ad := &adapter{name: file.name, config: c, arch: arch, updates: map[string]*update{}}
	if c.Base != "" {
		ad.name += fmt.Sprintf(" (adapter for %q)", c.Base)
	}
	for _, t := range file.tensors {
		e := entry{Tensor: t, file: ad.name, raw: t.Name}
		var ok bool
		if e.Name, ok = strings.CutPrefix(t.Name, peftPrefix); !ok {
			return nil, e.errorf("expected a name that starts with %q, as PEFT writes it", peftPrefix)
		}
		if _, ok := floatMasks[t.DType]; !ok {
			return nil, e.errorf("dtype %s, expected F32, F16 or BF16", t.DType)
		}
		if !strings.Contains(e.Name, ".lora_") {
			ad.whole = append(ad.whole, e)
		} else if err := ad.addHalf(e); err != nil {
			return nil, err
		}
	}
	return ad, ad.checkPairs()
}

// addHalf adds one factor of a low-rank update, module.lora_A.weight or
// module.lora_B.weight. The adapter's name may precede "weight".
func (ad *adapter) addHalf(e entry) error {
	for _, half := range []string{"lora_A", "lora_B"} {
		module, rest, ok := strings.Cut(e.Name, "."+half+".")
		if !ok {
			continue
		}
		if rest != "weight" && (!strings.HasSuffix(rest, ".weight") || strings.Count(rest, ".") > 1) {
			return e.errorf("%s: only its weight is supported", half)
		}
		target := ad.arch.canonical(module + ".weight")
		u := ad.updates[target]
		if u == nil {
			u = &update{module: module}
			ad.updates[target] = u
		}
		to := &u.a
		if half == "lora_B" {
			to = &u.b
		}
		if to.raw != "" {
			return e.errorf("it is the same tensor as %q", to.raw)
		}
		*to = e
		return nil
	}
	return e.errorf("not supported, expected lora_A or lora_B of a dense layer")
}

// checkPairs rejects a factor without its counterpart.
func (ad *adapter) checkPairs() error {
	for _, u := range ad.updates {
		if u.a.raw == "" {
			return u.b.errorf("its lora_A is missing")
		}
		if u.b.raw == "" {
			return u.a.errorf("its lora_B is missing")
		}
	}
	return nil
}

// replace replaces tensors of the base by the adapter's. A new classifier may
// change the number of labels in cfg.
func (ad *adapter) replace(found map[string]entry, cfg *modelConfig) error {
	places := map[string]bool{}
	for _, s := range layout(cfg) {
		places[s.name] = !s.zeros
	}
	done := map[string]bool{}
	for _, form := range []string{"", ".modules_to_save.", ".original_module."} {
		for _, e := range ad.whole {
			if tensorForm(e.Name) != form {
				continue
			}
			name := ad.target(e.Name, form, places)
			switch {
			case name == "":
				return e.errorf("the model has no such tensor")
			case done[name] && form != "":
				continue // a second copy, or the original that it replaced
			case done[name]:
				return e.errorf("the adapter replaces %q twice", name)
			case form == ".original_module.":
				return e.errorf("the adapter has no replacement for %q", name)
			case ad.updates[name] != nil:
				return e.errorf("the adapter both replaces and updates %q", name)
			}
			e.Name, done[name] = name, true
			found[name] = e
		}
	}
	if e := found[cfg.Head[len(cfg.Head)-1].Name+".weight"]; done[e.Name] && len(e.Shape) == 2 {
		if e.Shape[0] < 1 || e.Shape[0] > maxLabels {
			return e.errorf("shape %v, expected 1 to %d labels", e.Shape, maxLabels)
		}
		cfg.setLabels(e.Shape[0])
	}
	return nil
}

// tensorForm returns the marker of PEFT's wrapper in a name, "" for a plain name.
// Training with bias "all", and old versions of PEFT, also save wrapped names.
func tensorForm(name string) string {
	for _, form := range []string{".modules_to_save.", ".original_module."} {
		if strings.Contains(name, form) {
			return form
		}
	}
	return ""
}

// target returns the name of the tensor that an adapter's tensor replaces, "" for none.
func (ad *adapter) target(name, form string, places map[string]bool) string {
	name = strings.Replace(name, ".base_layer.", ".", 1)
	plain := ad.arch.canonical(name)
	if form != "" {
		module, rest, _ := strings.Cut(name, form)
		plain = ad.arch.canonical(module + "." + rest)
		if _, param, ok := strings.Cut(rest, "."); ok && !places[plain] { // rest starts with the adapter's name
			plain = ad.arch.canonical(module + "." + param)
		}
	}
	if !places[plain] {
		return ""
	}
	return plain
}
