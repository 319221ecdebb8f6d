package weights

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
)

const (
	maxAdapterConfig = 256 << 10 // bytes
	maxPattern       = 256       // bytes; the name of a module has about 60

	// maxRank bounds the rank of an update. It is the largest hidden_size; a
	// larger update would be larger than the weight itself.
	maxRank = 1 << 14
)

// An adapterConfig holds the settings of adapter_config.json that merging needs.
type adapterConfig struct {
	Base          string // base_model_name_or_path, for errors only
	Rank          int
	Alpha         float64
	RankStable    bool      // use_rslora
	RankPatterns  []pattern // exceptions to Rank and Alpha: the first match counts
	AlphaPatterns []pattern
}

// A pattern sets another value for the modules that it matches.
type pattern struct {
	text  string
	expr  *regexp.Regexp
	value float64
}

// harmless lists the keys that do not change the meaning of a saved adapter:
// provenance, training, the choice of modules (the file of tensors shows it), and
// fan_in_fan_out, which PEFT resets for the dense layers of a BERT.
var harmless = map[string]bool{
	"auto_mapping": true, "base_model_class": true, "bias": true, "eva_config": true, "exclude_modules": true,
	"fan_in_fan_out": true, "inference_mode": true, "layers_pattern": true, "layers_to_transform": true,
	"lora_dropout": true, "megatron_core": true, "modules_to_save": true, "parent_library": true,
	"peft_version": true, "qalora_group_size": true, "revision": true, "runtime_config": true,
	"target_modules": true, "task_type": true,
}

// parseAdapterConfig decodes adapter_config.json. It rejects by name a setting
// that is not supported, not harmless and not switched off, because the setting
// may change the meaning of the tensors.
func parseAdapterConfig(data []byte) (adapterConfig, error) {
	members, err := splitObject(data)
	if err != nil {
		return adapterConfig{}, err
	}
	var c adapterConfig
	var kind string
	for _, m := range members {
		switch m.key {
		case "peft_type":
			err = json.Unmarshal(m.value, &kind)
		case "base_model_name_or_path":
			err = json.Unmarshal(m.value, &c.Base)
		case "r":
			err = json.Unmarshal(m.value, &c.Rank)
		case "lora_alpha":
			err = json.Unmarshal(m.value, &c.Alpha)
		case "use_rslora":
			err = json.Unmarshal(m.value, &c.RankStable)
		case "rank_pattern":
			c.RankPatterns, err = parsePatterns(m.value)
		case "alpha_pattern":
			c.AlphaPatterns, err = parsePatterns(m.value)
		case "init_lora_weights":
			err = checkInit(m.value)
		default:
			if !harmless[m.key] && !off(m.value) {
				err = fmt.Errorf("%.80s is not supported", m.value)
			}
		}
		if err != nil {
			return c, fmt.Errorf("field %q: %w", m.key, jsonError(err))
		}
	}
	return c, c.check(kind)
}

func (c adapterConfig) check(kind string) error {
	if kind != "LORA" {
		return fmt.Errorf("peft_type %q is not supported, expected \"LORA\"", kind)
	}
	if c.Rank < 1 || c.Rank > maxRank {
		return fmt.Errorf("r is %d, expected 1 to %d", c.Rank, maxRank)
	}
	for _, p := range c.RankPatterns {
		if p.value != math.Trunc(p.value) || p.value < 1 || p.value > maxRank {
			return fmt.Errorf("rank_pattern %q is %v, expected a whole number from 1 to %d", p.text, p.value, maxRank)
		}
	}
	return nil
}

// rank returns the rank of a module's update.
func (c adapterConfig) rank(module string) int {
	return int(lookup(c.RankPatterns, module, float64(c.Rank)))
}

// scale returns the factor of a module's update.
func (c adapterConfig) scale(module string) float32 {
	rank := float64(c.rank(module))
	if c.RankStable {
		rank = math.Sqrt(rank)
	}
	return float32(lookup(c.AlphaPatterns, module, c.Alpha) / rank)
}

func lookup(patterns []pattern, module string, value float64) float64 {
	for _, p := range patterns {
		if p.expr.MatchString(module) {
			return p.value
		}
	}
	return value
}

// parsePatterns decodes an object from regular expressions to numbers, or null.
// As in PEFT, an expression must match the whole module name or its last parts.
func parsePatterns(data []byte) ([]pattern, error) {
	if off(data) {
		return nil, nil
	}
	members, err := splitObject(data)
	if err != nil {
		return nil, err
	}
	var patterns []pattern
	for _, m := range members {
		p := pattern{text: m.key}
		if err := json.Unmarshal(m.value, &p.value); err != nil {
			return nil, fmt.Errorf("pattern %.80q: %w", m.key, jsonError(err))
		}
		if p.expr, err = compile(m.key); err != nil {
			return nil, fmt.Errorf("pattern %.80q: %w", m.key, err)
		}
		patterns = append(patterns, p)
	}
	return patterns, nil
}

// compile compiles a pattern. It rejects constructs with which a short pattern
// takes much memory: counts, and the character classes of RE2, which Python's
// expressions lack.
func compile(text string) (*regexp.Regexp, error) {
	if len(text) > maxPattern {
		return nil, fmt.Errorf("%d bytes, expected at most %d", len(text), maxPattern)
	}
	if strings.ContainsAny(text, "{}") || strings.Contains(text, `\p`) || strings.Contains(text, `\P`) {
		return nil, errors.New("counted repetition and named character classes are not supported")
	}
	expr, err := regexp.Compile(`^(?:.*\.)?(?:` + text + `)$`)
	if err != nil {
		return nil, fmt.Errorf("not a supported regular expression: %w", err)
	}
	return expr, nil
}

// checkInit rejects initialisations that change the base's weights: the saved
// tensors are relative to a changed base, which cannot be computed from them.
func checkInit(data []byte) error {
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	switch v {
	case nil, true, false, "gaussian", "eva", "orthogonal":
		return nil
	}
	return fmt.Errorf("%.80s is not supported: it changes the base's weights; save the adapter with path_initial_model_for_weight_conversion", data)
}

// off reports whether a value switches a setting off.
func off(data []byte) bool {
	switch string(bytes.Join(bytes.Fields(data), nil)) {
	case "null", "false", "0", `""`, "[]", "{}":
		return true
	}
	return false
}
