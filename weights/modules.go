package weights

import (
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxModules    = 64
	maxModulePath = 64 // bytes; names of the head's steps begin with it
	maxSteps      = 16 // of a head, the native library's limit too

	moduleLayerNormEps = 1e-5 // torch's default, which LayerNorm of sentence-transformers keeps
	tokenFeature       = "token_embeddings"
	pooledFeature      = "sentence_embedding"
	scoresFeature      = "scores"
)

// A module is an entry of modules.json: a part of a model of sentence-transformers.
type module struct {
	index int
	path  string // its folder below the model's, "" for the model's own
	kind  string // its class without the package
}

func (m module) String() string {
	return fmt.Sprintf("module %d of %s (%s)", m.index, modulesFile, m.kind)
}

// A moduleFile is a file of a module's tensors.
type moduleFile struct {
	module
	dir   string
	names []string // the tensors that it must have, and no others
}

// parseModules parses modules.json.
func parseModules(data []byte) ([]module, error) {
	var entries []struct {
		Path string `json:"path"`
		Type string `json:"type"`
	}
	if err := decodeKnown(data, &entries); err != nil {
		return nil, err
	}
	if len(entries) == 0 || len(entries) > maxModules {
		return nil, fmt.Errorf("%d modules are not supported, expected 1 to %d", len(entries), maxModules)
	}
	modules := make([]module, len(entries))
	for i, e := range entries {
		if !strings.HasPrefix(e.Type, "sentence_transformers.") {
			return nil, fmt.Errorf("module %q is code of the model itself, which sentence-transformers runs with trust_remote_code; mlxrank runs no code of models", e.Type)
		}
		if e.Path == "." {
			e.Path = ""
		}
		if e.Path != "" && (!fs.ValidPath(e.Path) || strings.ContainsAny(e.Path, "\\\x00") || len(e.Path) > maxModulePath) {
			return nil, fmt.Errorf("path of module %d is %.80q, expected a folder below the model's, of at most %d bytes", i, e.Path, maxModulePath)
		}
		modules[i] = module{index: i, path: e.Path, kind: e.Type[strings.LastIndexByte(e.Type, '.')+1:]}
	}
	return modules, checkOrder(modules)
}

// checkOrder checks that the modules can make scores: a Transformer alone, which is a
// classifier, or a Transformer, a Pooling and a head.
func checkOrder(modules []module) error {
	for i, m := range modules {
		var expected string
		switch {
		case i == 0 && m.kind != "Transformer":
			expected = "a Transformer first"
		case i == 1 && m.kind != "Pooling":
			expected = "a Pooling after the Transformer"
		case i > 1 && !slices.Contains([]string{"Dense", "LayerNorm", "Dropout"}, m.kind):
			expected = "Dense, LayerNorm and Dropout after the Pooling"
		case i > 0 && m.path == "" && m.kind != "Dropout":
			return fmt.Errorf("path of module %d (%s) is empty, expected a folder", i, m.kind)
		default:
			continue
		}
		return fmt.Errorf("module %d is %.80q, which is not supported there: expected %s", i, m.kind, expected)
	}
	return nil
}

// readStack makes the head of the modules after the Transformer, as CrossEncoder
// applies them. Their folders are in root.
func (m *Model) readStack(root string, sentence sentenceSettings, cfg *modelConfig) error {
	h := stack{model: m, root: root, cfg: cfg, prompt: sentence.prompt}
	cfg.Head, cfg.bareSteps = nil, map[string]bool{}
	for _, part := range sentence.modules[1:] {
		if err := h.add(part); err != nil {
			return err
		}
	}
	if err := h.check(); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(root, modulesFile), err)
	}
	cfg.Labels = h.width
	return nil
}

// check checks that the chain makes scores.
func (s *stack) check() error {
	steps := len(s.cfg.Head)
	switch {
	case s.feature != scoresFeature:
		return fmt.Errorf("the last module makes %q, expected a Dense with module_output_name %q", s.feature, scoresFeature)
	case steps > maxSteps:
		return fmt.Errorf("%d modules of Dense and LayerNorm, expected at most %d", steps, maxSteps)
	case s.width > maxLabels:
		return fmt.Errorf("the last module makes %d scores, expected at most %d", s.width, maxLabels)
	}
	return nil
}

// A stack is a chain of modules that is being read.
type stack struct {
	model   *Model
	root    string
	cfg     *modelConfig
	prompt  string
	feature string // what the last module has made
	width   int    // its size
	maker   module
}

// add appends a module to the chain.
func (s *stack) add(m module) error {
	if m.kind == "Dropout" { // it does nothing in a prediction
		return nil
	}
	path := filepath.Join(s.root, m.path, configFile)
	fields, err := readFields(path)
	if err == nil && fields == nil {
		err = absent(fmt.Sprintf("%s is missing: %v needs it; copy or pull the whole model again", path, m))
	}
	if err != nil {
		return err
	}
	switch m.kind {
	case "Pooling":
		err = s.addPooling(fields)
	case "Dense":
		err = s.addDense(m, fields)
	default:
		err = s.addLayerNorm(m, fields)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	s.maker = m
	return nil
}

// checkFeature checks that a module reads what the module before it has made.
func (s *stack) checkFeature(m module, reads string) error {
	if reads != s.feature {
		return fmt.Errorf("%v reads %q, expected %q, which %v makes", m, reads, s.feature, s.maker)
	}
	return nil
}

// checkWidth checks that the size of a module's input is that of the result before it.
func (s *stack) checkWidth(field string, width int) error {
	if width != s.width {
		return fmt.Errorf("%s is %d, expected %d, the size of what %v makes", field, width, s.width, s.maker)
	}
	return nil
}

func (s *stack) addPooling(fields map[string]jsontext.Value) error {
	p, err := parsePooling(fields)
	if err != nil {
		return err
	}
	hidden := s.cfg.HiddenSize
	if p.width != hidden {
		return fmt.Errorf("%s is %d, expected %d, the %s of %s", p.widthField, p.width, hidden, s.cfg.arch.field("hidden_size"), configFile)
	}
	if !p.includePrompt && s.prompt != "" {
		return fmt.Errorf("include_prompt is false, expected true: pooling without the tokens of the prompt %.40q is not supported", s.prompt)
	}
	s.cfg.Pooling, s.feature, s.width = p.modes, pooledFeature, bits.OnesCount(uint(p.modes))*hidden
	return nil
}

// A poolingConfig is config.json of a Pooling.
type poolingConfig struct {
	width         int
	widthField    string
	modes         Pooling
	includePrompt bool
}

// A poolingMode is a value of pooling_mode, with the older setting of the same meaning.
type poolingMode struct {
	name, old string
	pooling   Pooling
}

// poolingModes lists the values of pooling_mode in the order of the constants.
var poolingModes = []poolingMode{
	{"cls", "pooling_mode_cls_token", PoolCLS},
	{"max", "pooling_mode_max_tokens", PoolMax},
	{"mean", "pooling_mode_mean_tokens", PoolMean},
	{"mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", PoolMeanSqrt},
	{"weightedmean", "pooling_mode_weightedmean_tokens", PoolWeightedMean},
	{"lasttoken", "pooling_mode_lasttoken", PoolLast},
}

func parsePooling(fields map[string]jsontext.Value) (poolingConfig, error) {
	p := poolingConfig{widthField: "embedding_dimension", includePrompt: true}
	if _, ok := fields[p.widthField]; !ok {
		p.widthField = "word_embedding_dimension" // before version 5.4
	}
	known := []string{"embedding_dimension", "word_embedding_dimension", "pooling_mode", "include_prompt"}
	for _, mode := range poolingModes {
		known = append(known, mode.old)
	}
	if err := checkKnown(fields, known); err != nil {
		return p, err
	}
	if err := decodeField(fields, "include_prompt", &p.includePrompt); err != nil {
		return p, err
	}
	if err := decodeSize(fields, p.widthField, &p.width); err != nil {
		return p, err
	}
	var err error
	if raw, ok := fields["pooling_mode"]; ok {
		p.modes, err = parsePoolingMode(raw)
		return p, err
	}
	for _, mode := range poolingModes {
		on := false
		if err := decodeField(fields, mode.old, &on); err != nil {
			return p, err
		}
		if on {
			p.modes |= mode.pooling
		}
	}
	if p.modes == 0 {
		p.modes = PoolMean
	}
	return p, nil
}

// parsePoolingMode parses a mode, or a list of modes whose vectors lie end to end.
func parsePoolingMode(raw jsontext.Value) (Pooling, error) {
	names := []string{unquote(raw)}
	if raw.Kind() == '[' {
		if err := decode(raw, &names); err != nil {
			return 0, fmt.Errorf("pooling_mode: %w", err)
		}
	}
	found := fmt.Sprintf("%.80q", strings.Join(names, ", "))
	var modes Pooling
	for _, name := range names {
		i := slices.IndexFunc(poolingModes, func(m poolingMode) bool { return m.name == name })
		if i < 0 {
			return 0, fmt.Errorf("pooling_mode is %s, expected cls, max, mean, mean_sqrt_len_tokens, weightedmean or lasttoken", found)
		}
		if mode := poolingModes[i].pooling; mode <= modes {
			return 0, fmt.Errorf("pooling_mode is %s, expected each mode once, in the order cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken", found)
		}
		modes |= poolingModes[i].pooling
	}
	if modes == 0 {
		return 0, errors.New("pooling_mode is empty, expected at least one mode")
	}
	return modes, nil
}

func (s *stack) addDense(m module, fields map[string]jsontext.Value) error {
	d, err := parseDense(fields)
	if err != nil {
		return err
	}
	if err := s.checkFeature(m, d.reads); err != nil {
		return err
	}
	if err := s.checkWidth("in_features", d.in); err != nil {
		return err
	}
	if d.residual && d.in != d.out {
		return fmt.Errorf("use_residual with in_features %d and out_features %d is not supported, expected equal sizes", d.in, d.out)
	}
	for _, text := range d.warnings {
		s.model.warn("%s: %s", filepath.Join(m.path, configFile), text)
	}
	step := HeadStep{Name: m.path + ".linear", Out: d.out, Activation: d.activation, Residual: d.residual}
	s.addStep(m, step, !d.bias)
	s.feature, s.width = d.makes, d.out
	return nil
}

// addStep adds a step of the head and the file of its tensors.
func (s *stack) addStep(m module, step HeadStep, bare bool) {
	s.cfg.Head = append(s.cfg.Head, step)
	s.cfg.bareSteps[step.Name] = bare
	own := strings.TrimPrefix(step.Name, m.path+".")
	names := []string{own + ".weight"}
	if !bare {
		names = append(names, own+".bias")
	}
	s.cfg.stack = append(s.cfg.stack, moduleFile{m, filepath.Join(s.root, m.path), names})
}

// A denseConfig is config.json of a Dense.
type denseConfig struct {
	in, out      int
	bias         bool
	activation   Activation
	residual     bool
	reads, makes string // names of features
	warnings     []string
}

// moduleActivations maps the classes of torch.nn to the functions of a Dense.
var moduleActivations = map[string]Activation{
	"Identity": Identity, "Tanh": Tanh, "GELU": GELU, "ReLU": ReLU, "SiLU": SiLU, "Sigmoid": Sigmoid,
}

func parseDense(fields map[string]jsontext.Value) (denseConfig, error) {
	d := denseConfig{bias: true, activation: Tanh, reads: pooledFeature}
	known := []string{"in_features", "out_features", "bias", "activation_function", "module_input_name", "module_output_name", "use_residual"}
	for _, name := range sortedKeys(fields) {
		if !slices.Contains(known, name) {
			d.warnings = append(d.warnings, fmt.Sprintf("the unknown setting %.40q is ignored, as in CrossEncoder", name))
		}
	}
	var makes *string
	for _, f := range []struct {
		name string
		to   any
	}{{"bias", &d.bias}, {"use_residual", &d.residual}, {"module_input_name", &d.reads}, {"module_output_name", &makes}} {
		if err := decodeField(fields, f.name, f.to); err != nil {
			return d, err
		}
	}
	d.makes = valueOr(makes, d.reads)
	if err := decodeSize(fields, "in_features", &d.in); err != nil {
		return d, err
	}
	if err := decodeSize(fields, "out_features", &d.out); err != nil {
		return d, err
	}
	raw, ok := fields["activation_function"]
	if !ok {
		return d, nil
	}
	return d, d.parseActivation(raw)
}

// parseActivation parses the class of a function. A class from outside torch gives a
// warning and counts as the default, as in CrossEncoder without trust_remote_code.
func (d *denseConfig) parseActivation(raw jsontext.Value) error {
	name := unquote(raw)
	if name != "" && !strings.HasPrefix(name, "torch.") {
		d.warnings = append(d.warnings, fmt.Sprintf("the activation_function %.80q is not a class of torch; Tanh is used, as in CrossEncoder without trust_remote_code", name))
		return nil
	}
	class, ok := torchClass(name)
	if d.activation = moduleActivations[class]; !ok || d.activation == "" {
		return fmt.Errorf("activation_function %.80s is not supported, expected one of %s of torch.nn", raw, strings.Join(sortedKeys(moduleActivations), ", "))
	}
	return nil
}

func (s *stack) addLayerNorm(m module, fields map[string]jsontext.Value) error {
	if err := s.checkFeature(m, pooledFeature); err != nil {
		return err
	}
	width, err := parseLayerNorm(fields)
	if err != nil {
		return err
	}
	if err := s.checkWidth("dimension", width); err != nil {
		return err
	}
	s.addStep(m, HeadStep{Name: m.path + ".norm", Out: width, LayerNorm: true, Epsilon: moduleLayerNormEps}, false)
	return nil
}

// parseLayerNorm returns the size in config.json of a LayerNorm.
func parseLayerNorm(fields map[string]jsontext.Value) (width int, err error) {
	if err := checkKnown(fields, []string{"dimension"}); err != nil {
		return 0, err
	}
	return width, decodeSize(fields, "dimension", &width)
}

// checkKnown rejects fields that CrossEncoder rejects too.
func checkKnown(fields map[string]jsontext.Value, known []string) error {
	for _, name := range sortedKeys(fields) {
		if !slices.Contains(known, name) {
			return fmt.Errorf("unknown field %.40q, expected one of %s", name, strings.Join(known, ", "))
		}
	}
	return nil
}

// decodeSize decodes a size that must be there.
func decodeSize(fields map[string]jsontext.Value, name string, to *int) error {
	const most = maxSteps * maxHidden
	if isNull(fields[name]) {
		return fmt.Errorf("field %q is missing", name)
	}
	if err := decodeField(fields, name, to); err != nil {
		return err
	}
	if *to < 1 || *to > most {
		return fmt.Errorf("%s is %d, expected 1 to %d", name, *to, most)
	}
	return nil
}

// mapStack maps the tensors of the head's modules. As in CrossEncoder, a file must
// have the tensors of its module and no others.
func (m *Model) mapStack(files []moduleFile, found map[string]entry) error {
	for _, f := range files {
		file, err := m.mapFile(filepath.Join(f.dir, weightsFile))
		if err != nil {
			return err
		}
		if lacking := file.lacks(f.names); len(lacking) > 0 {
			return fmt.Errorf("%s lacks tensors of %v: %s", file.name, f.module, few(lacking))
		}
		for _, t := range file.tensors {
			if !slices.Contains(f.names, t.Name) {
				return fmt.Errorf("%s: tensor %.80q is unknown, expected %s of %v", file.name, t.Name, strings.Join(f.names, " and "), f.module)
			}
			e := entry{Tensor: t, file: file.name, raw: t.Name}
			e.Name = f.path + "." + t.Name
			found[e.Name] = e
		}
	}
	return nil
}
