package results

import "fmt"

// A Server is what was measured in the place of an engine.
type Server struct {
	URL   string            `json:"url"`   // without credentials
	API   string            `json:"api"`   // tei, jina or cohere
	Model string            `json:"model"` // that was asked for, "" where the API names none
	Info  map[string]string `json:"info"`  // what it says of itself, null if nothing
}

// Same says whether two results are of one server, asked in one way. nil is no
// server.
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

// A ServerSide is what a server tells of where a request's time went, nil what
// it does not tell.
type ServerSide struct {
	TotalMS        *float64 `json:"total_ms"`
	TokenizationMS *float64 `json:"tokenization_ms"`
	QueueWaitMS    *float64 `json:"queue_wait_ms"`
	InferenceMS    *float64 `json:"inference_ms"`
}

// Known says which stages are known of all requests of a run: of an engine's
// all, of a server's those that it tells.
type Known struct{ Tokenization, QueueWait, Inference bool }

// All says whether what is left of the latency is known too.
func (k Known) All() bool { return k.Tokenization && k.QueueWait && k.Inference }

// Known says which stages are.
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
