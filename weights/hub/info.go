package hub

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

const (
	maxInfo   = 16 << 20 // bytes of the hub's description of a model
	maxIndex  = 16 << 20 // bytes of an index of shards
	maxSmall  = 64 << 20 // bytes of a file that is not weights
	maxShards = 1 << 10
)

// info is what the hub says of a model at a revision.
type info struct {
	commit string
	files  tree // by names that are paths below the repository, others dropped
}

// parseInfo reads the answer of /api/models/ORG/NAME/revision/REVISION.
func parseInfo(data []byte) (info, error) {
	var answer struct {
		SHA      string `json:"sha"`
		Siblings []struct {
			Name   string `json:"rfilename"`
			Size   int64  `json:"size"`
			BlobID string `json:"blobId"`
			LFS    *struct {
				SHA256 string `json:"sha256"`
				Size   int64  `json:"size"`
			} `json:"lfs"`
		} `json:"siblings"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return info{}, fmt.Errorf("what the hub says of the model is not understood: %w", err)
	}
	if !commitPattern.MatchString(answer.SHA) {
		return info{}, errors.New("what the hub says of the model names no commit")
	}
	in := info{commit: answer.SHA, files: tree{}}
	for _, s := range answer.Siblings {
		if !validName(s.Name) {
			continue
		}
		entry := treeEntry{Size: s.Size, BlobID: s.BlobID}
		if s.LFS != nil {
			entry.SHA256, entry.LFSSize = s.LFS.SHA256, s.LFS.Size
		}
		in.files[s.Name] = entry
	}
	return in, nil
}

// validName accepts what stays below the directory it is joined to.
func validName(name string) bool {
	return fs.ValidPath(name) && name != "." && !strings.ContainsAny(name, "\\\x00") && len(name) < 1<<10
}

// choose returns the files of a model that are no weights, and the file that is
// or names the weights. The error says what makes the repository unfit.
func (in info) choose() (small []string, weights string, err error) {
	has := func(name string) bool { _, ok := in.files[name]; return ok }
	switch {
	case !has(configFile) && has("adapter_config.json"):
		return nil, "", errors.New("the repository is a PEFT adapter and no model: download its files into a directory, " +
			"and give that as the adapter (--adapter DIR) of the model that it was trained on")
	case !has(configFile):
		return nil, "", fmt.Errorf("the repository has no %s: it holds no model of transformers", configFile)
	case !has(tokenizerFile):
		return nil, "", fmt.Errorf("the repository has no %s: in Python, AutoTokenizer.from_pretrained(...).save_pretrained(DIR) "+
			"writes one; then use --model DIR", tokenizerFile)
	case has(weightsFile):
		weights = weightsFile
	case has(indexFile):
		weights = indexFile
	default:
		found := slices.DeleteFunc(slices.Sorted(maps.Keys(in.files)), func(name string) bool {
			return !slices.Contains([]string{"pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"}, name)
		})
		return nil, "", fmt.Errorf("the repository has no %s (found %s): convert it in Python with "+
			"save_pretrained(DIR, safe_serialization=True) and use --model DIR", weightsFile, cmp.Or(strings.Join(found, ", "), "no weights"))
	}
	small = []string{configFile, tokenizerFile}
	for _, name := range optionalFiles {
		if has(name) {
			small = append(small, name)
		}
	}
	return small, weights, nil
}

// parseIndex returns the names of the shards that an index of weights lists.
// They lie beside it.
func parseIndex(data []byte) ([]string, error) {
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("%s: %w", indexFile, err)
	}
	var names []string
	seen := map[string]bool{}
	for _, name := range index.WeightMap {
		if seen[name] {
			continue
		}
		seen[name] = true
		if !validName(name) || strings.Contains(name, "/") || !strings.HasSuffix(name, ".safetensors") {
			return nil, fmt.Errorf("%s: weight_map names %q, expected safetensors files beside it", indexFile, name)
		}
		names = append(names, name)
	}
	if len(names) == 0 || len(names) > maxShards {
		return nil, fmt.Errorf("%s: weight_map names %d files, expected 1 to %d", indexFile, len(names), maxShards)
	}
	slices.Sort(names)
	return names, nil
}
