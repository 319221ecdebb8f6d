// Command hugot answers the driver of the comparison (scripts/peers) for hugot's
// cross-encoder on ONNX Runtime: lines of JSON as protocol.py describes them.
// A module of its own, so that mlxrank does not depend on hugot.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/knights-analytics/hugot"
	"github.com/knights-analytics/hugot/options"
	"github.com/knights-analytics/hugot/pipelines"
)

type request struct {
	Op    string `json:"op"`
	Pairs string `json:"pairs"`
	Size  int    `json:"size"`
}

type peer struct {
	session   *hugot.Session
	folder    string
	pipelines map[int]*pipelines.CrossEncoderPipeline // by batch size
	size      int
}

// main: FOLDER, FOLDER OF libonnxruntime.so [--once QUERY DOCUMENT]
func main() {
	if err := serve(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers: hugot:", err)
		os.Exit(1)
	}
}

func serve(args []string) error {
	session, err := hugot.NewORTSession(options.WithOnnxLibraryPath(args[1]),
		options.WithIntraOpNumThreads(runtime.NumCPU()))
	if err != nil {
		return err
	}
	p := &peer{session: session, folder: args[0], pipelines: map[int]*pipelines.CrossEncoderPipeline{}, size: 32}
	if _, err := p.pipeline(); err != nil {
		return err
	}
	if len(args) == 5 {
		_, logits, err := p.score([][2]string{{args[3], args[4]}})
		fmt.Println(logits)
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(map[string]any{"ready": true}); err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		answer, err := p.answer(in.Bytes())
		if err != nil {
			return err
		}
		if err := out.Encode(answer); err != nil {
			return err
		}
	}
	return in.Err()
}

// pipeline is that of the present batch size: hugot fixes it at the making.
func (p *peer) pipeline() (*pipelines.CrossEncoderPipeline, error) {
	if made := p.pipelines[p.size]; made != nil {
		return made, nil
	}
	made, err := hugot.NewPipeline(p.session, hugot.CrossEncoderConfig{
		ModelPath: p.folder, Name: fmt.Sprint("batch", p.size), OnnxFilename: "model.onnx",
		Options: []hugot.CrossEncoderOption{pipelines.WithBatchSize(p.size), pipelines.WithSortResults(false)},
	})
	p.pipelines[p.size] = made
	return made, err
}

func (p *peer) answer(line []byte) (any, error) {
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, err
	}
	switch r.Op {
	case "batch":
		p.size = r.Size
		_, err := p.pipeline()
		return struct{}{}, err
	case "score":
		var pairs [][2]string
		if err := read(r.Pairs, &pairs); err != nil {
			return nil, err
		}
		seconds, logits, err := p.score(pairs)
		return map[string]any{"seconds": seconds, "logits": logits}, err
	case "requests":
		var requests [][][2]string
		if err := read(r.Pairs, &requests); err != nil {
			return nil, err
		}
		all := []float64{}
		for _, pairs := range requests {
			seconds, _, err := p.score(pairs)
			if err != nil {
				return nil, err
			}
			all = append(all, seconds)
		}
		return map[string]any{"seconds": all}, nil
	}
	return nil, fmt.Errorf("a request %q, which no subject knows", r.Op)
}

// score goes query by query, which is all that hugot offers, with a query's
// documents sorted by length. hugot gives sigmoids: their inverse are logits.
func (p *peer) score(pairs [][2]string) (float64, []float64, error) {
	start := time.Now()
	pipeline, err := p.pipeline()
	if err != nil {
		return 0, nil, err
	}
	byQuery := map[string][]int{}
	for i, pair := range pairs {
		byQuery[pair[0]] = append(byQuery[pair[0]], i)
	}
	logits := make([]float64, len(pairs))
	for query, order := range byQuery {
		slices.SortFunc(order, func(a, b int) int { return cmp.Compare(len(pairs[b][1]), len(pairs[a][1])) })
		documents := make([]string, len(order))
		for i, n := range order {
			documents[i] = pairs[n][1]
		}
		out, err := pipeline.RunPipeline(query, documents)
		if err != nil {
			return 0, nil, err
		}
		for _, r := range out.Results {
			s := float64(r.Score)
			logits[order[r.Index]] = math.Log(s / (1 - s))
		}
	}
	return time.Since(start).Seconds(), logits, nil
}

func read(path string, to any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, to)
}
