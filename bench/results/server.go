package results

import "fmt"

// A Server describes a server that was measured instead of an engine.
type Server struct {
	URL   string            `json:"url"`   // without credentials
	API   string            `json:"api"`   // tei, jina or cohere
	Model string            `json:"model"` // requested model, "" if the API has none
	Info  map[string]string `json:"info"`  // from /info, null without it
}

// Same reports whether two results measured the same server in the same way. nil
// stands for an engine.
func (s *Server) Same(o *Server) bool {
	if s == nil || o == nil {
		return s == o
	}
	return s.URL == o.URL && s.API == o.API && s.Model == o.Model
}

func (s *Server) String() string {
	if s == nil {
		return "an engine of this machine"
	}
	return fmt.Sprintf("%s (API %s, model %q)", s.URL, s.API, s.Model)
}

// A ServerSide holds the times of a request that the server reported; nil was not
// reported.
type ServerSide struct {
	TotalMS        *float64 `json:"total_ms"`
	TokenizationMS *float64 `json:"tokenization_ms"`
	QueueWaitMS    *float64 `json:"queue_wait_ms"`
	InferenceMS    *float64 `json:"inference_ms"`
}

// Known names the stages that are known for all requests of a run. An engine
// reports all stages, a server maybe some.
type Known struct{ Tokenization, QueueWait, Inference bool }

// All reports whether all stages are known, and so the rest of the latency.
func (k Known) All() bool { return k.Tokenization && k.QueueWait && k.Inference }

// Known returns the stages that all requests have.
func (r *Run) Known() Known {
	k := Known{true, true, true}
	for _, request := range r.Requests {
		if s := request.Server; s != nil {
			k.Tokenization = k.Tokenization && s.TokenizationMS != nil
			k.QueueWait = k.QueueWait && s.QueueWaitMS != nil
			k.Inference = k.Inference && s.InferenceMS != nil
		}
	}
	return k
}
