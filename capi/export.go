package main

// #include "internal.h"
import "C"

import (
	"context"
	"encoding/json"
	"unsafe"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

//export mlxrgo_open
func mlxrgo_open(options *C.mlxr_options, call *C.mlxr_call, handle *C.mlxr_ranker, message *C.char) C.int32_t {
	return guard(message, func() error {
		if handle == nil {
			return invalid("the pointer to the ranker is NULL")
		}
		*handle = 0
		if err := refuseInLog(); err != nil {
			return err
		}
		cfg, err := newConfig(options)
		if err != nil {
			return err
		}
		ctx, err := checkCall(call, nil)
		if err != nil {
			return err
		}
		r := &ranker{closed: make(chan struct{})}
		if cfg.Logger, r.log, err = newLogger(options); err != nil {
			return err
		}
		if r.engine, err = open(ctx, cfg, toProgress(call)); err != nil {
			r.log.stop()
			return toOpenError(err)
		}
		*handle = C.mlxr_ranker(rankers.add(r))
		return nil
	})
}

// open opens the engine on another goroutine, so that it can call progress here, on
// the host's thread.
func open(ctx context.Context, cfg engine.Config, progress func(done, total int)) (*engine.Engine, error) {
	if progress == nil {
		return engine.Open(ctx, cfg)
	}
	type outcome struct {
		engine *engine.Engine
		err    error
	}
	opened, downloads := make(chan outcome, 1), make(chan engine.Download, 1)
	cfg.Progress = func(p engine.Download) {
		select {
		case downloads <- p:
		default: // the host has not received the previous one yet
		}
	}
	go func() {
		e, err := engine.Open(ctx, cfg)
		opened <- outcome{e, err}
	}()
	for {
		select {
		case o := <-opened:
			return o.engine, o.err
		case p := <-downloads:
			progress(int(p.Done), int(p.Total))
		}
	}
}

// toOpenError adds the status MLXR_MODEL to a failure of mlxr_open that has no other
// status.
func toOpenError(err error) error {
	if toStatus(err) == C.MLXR_FAILED {
		return &statusError{C.MLXR_MODEL, err.Error()}
	}
	return err
}

// checkCall checks a call's structs, which may be NULL, and returns its context.
func checkCall(c *C.mlxr_call, figures *C.mlxr_figures) (context.Context, error) {
	if figures != nil {
		if err := checkSize("mlxr_figures", figures.size, C.sizeof_mlxr_figures); err != nil {
			return nil, err
		}
	}
	if c == nil {
		return context.Background(), nil
	}
	if err := checkSize("mlxr_call", c.size, C.sizeof_mlxr_call); err != nil {
		return nil, err
	}
	if c.top_n < 0 {
		return nil, invalid("call: top_n is %d, expected at least 0", int64(c.top_n))
	}
	if c.reserved != 0 {
		return nil, invalid("call: reserved is %d, expected 0", int32(c.reserved))
	}
	if c.long_documents < 0 || c.long_documents > C.MLXR_LONG_PASSAGES {
		return nil, invalid("call: long_documents is %d, expected 0 or 1", int32(c.long_documents))
	}
	return toContext(c.cancellation)
}

// checkRoom sets *needed to the room that a result takes and checks that it is there.
func checkRoom(out unsafe.Pointer, room, takes C.int64_t, needed *C.int64_t, what string) error {
	if needed != nil {
		*needed = takes
	}
	if room < 0 {
		return invalid("the room for %s is %d, expected at least 0", what, int64(room))
	}
	if room < takes {
		return failf(C.MLXR_ROOM, "room for %d %s, %d needed", int64(room), what, int64(takes))
	}
	if out == nil && takes > 0 {
		return invalid("the buffer for %s is NULL", what)
	}
	return nil
}

//export mlxrgo_score
func mlxrgo_score(handle C.mlxr_ranker, queries, documents *C.mlxr_text, pairs C.int64_t, call *C.mlxr_call,
	scores *C.float, room C.int64_t, needed *C.int64_t, figures *C.mlxr_figures, message *C.char) C.int32_t {
	return on(handle, message, func(r *ranker) error {
		ctx, err := checkCall(call, figures)
		if err != nil {
			return err
		}
		left := int64(maxCallBytes)
		q, err := texts(queries, pairs, "query", &left)
		if err != nil {
			return err
		}
		d, err := texts(documents, pairs, "document", &left)
		if err != nil {
			return err
		}
		if err := checkRoom(unsafe.Pointer(scores), room, pairs, needed, "scores"); err != nil {
			return err
		}
		list := make([]engine.Pair, pairs)
		for i := range list {
			list[i] = engine.Pair{Query: q[i], Document: d[i]}
		}
		result, err := r.engine.ScoreWith(ctx, list, engine.ScoreOptions{Progress: toProgress(call)})
		if err != nil {
			return err
		}
		copy(unsafe.Slice((*float32)(scores), int(pairs)), result.Scores)
		fillFigures(figures, result, len(list))
		return nil
	})
}

//export mlxrgo_rerank
func mlxrgo_rerank(handle C.mlxr_ranker, query, documents *C.mlxr_text, count C.int64_t, call *C.mlxr_call,
	ranked *C.mlxr_ranked, room C.int64_t, needed *C.int64_t, figures *C.mlxr_figures, message *C.char) C.int32_t {
	return on(handle, message, func(r *ranker) error {
		ctx, err := checkCall(call, figures)
		if err != nil {
			return err
		}
		left := int64(maxCallBytes)
		q, err := text(query, label{"query", -1}, &left)
		if err != nil {
			return err
		}
		d, err := texts(documents, count, "document", &left)
		if err != nil {
			return err
		}
		opts := rerankOptions(call)
		takes := count
		if opts.TopN > 0 {
			takes = min(takes, C.int64_t(opts.TopN))
		}
		if err := checkRoom(unsafe.Pointer(ranked), room, takes, needed, "documents"); err != nil {
			return err
		}
		ranking, err := r.engine.Rerank(ctx, q, d, opts)
		if err != nil {
			return err
		}
		out := unsafe.Slice(ranked, int(takes))
		for i, item := range ranking.Items {
			out[i] = C.mlxr_ranked{index: C.int64_t(item.Index), score: C.float(item.Score), logit: C.float(item.Logit)}
		}
		fillFigures(figures, &ranking.Result, ranking.Pairs)
		return nil
	})
}

func rerankOptions(c *C.mlxr_call) engine.RerankOptions {
	if c == nil {
		return engine.RerankOptions{}
	}
	opts := engine.RerankOptions{TopN: int(c.top_n), ScoreOptions: engine.ScoreOptions{Progress: toProgress(c)}}
	if c.long_documents == C.MLXR_LONG_PASSAGES {
		opts.Long = engine.Passages
	}
	return opts
}

func fillFigures(f *C.mlxr_figures, result *engine.Result, pairs int) {
	if f == nil {
		return
	}
	t := result.Timings
	f.latency_ms, f.inference_ms = C.double(telemetry.Milliseconds(t.Latency)), C.double(telemetry.Milliseconds(t.Inference))
	f.tokenization_ms, f.queue_wait_ms = C.double(telemetry.Milliseconds(t.Tokenization)), C.double(telemetry.Milliseconds(t.QueueWait))
	f.other_ms = C.double(telemetry.Milliseconds(t.Other))
	f.pairs, f.truncated, f.tokens = C.int64_t(pairs), C.int64_t(result.Truncated), C.int64_t(result.Tokens)
}

//export mlxrgo_info
func mlxrgo_info(handle C.mlxr_ranker, out *C.char, room C.int64_t, needed *C.int64_t, message *C.char) C.int32_t {
	return on(handle, message, func(r *ranker) error { return putJSON(newInfo(r.engine.Info()), out, room, needed) })
}

//export mlxrgo_stats
func mlxrgo_stats(handle C.mlxr_ranker, out *C.char, room C.int64_t, needed *C.int64_t, message *C.char) C.int32_t {
	return on(handle, message, func(r *ranker) error {
		memory, err := r.engine.Memory()
		if err != nil {
			return err
		}
		return putJSON(newStats(r.engine.Stats(), memory), out, room, needed)
	})
}

func putJSON(v any, out *C.char, room C.int64_t, needed *C.int64_t) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return put(string(data), out, room, needed)
}

// put copies a text with a NUL at the end.
func put(text string, out *C.char, room C.int64_t, needed *C.int64_t) error {
	takes := len(text) + 1
	if err := checkRoom(unsafe.Pointer(out), room, C.int64_t(takes), needed, "bytes"); err != nil {
		return err
	}
	to := unsafe.Slice((*byte)(unsafe.Pointer(out)), takes)
	to[copy(to, text)] = 0
	return nil
}

//export mlxrgo_trim
func mlxrgo_trim(handle C.mlxr_ranker, message *C.char) C.int32_t {
	return on(handle, message, func(r *ranker) error {
		err := r.engine.Trim()
		C.mlxrgo_trim_malloc()
		return err
	})
}

//export mlxrgo_close
func mlxrgo_close(handle C.mlxr_ranker, message *C.char) C.int32_t {
	return guard(message, func() error {
		if C.mlxrgo_in_callback() != 0 {
			return invalid("a callback cannot close a ranker: the close would wait for the callback")
		}
		if r, ok := rankers.get(int64(handle)); ok {
			return r.close(int64(handle))
		}
		if rankers.was(int64(handle)) {
			return nil
		}
		return failf(C.MLXR_CLOSED, "ranker %d never existed", int64(handle))
	})
}

// Copies the message of the last failure on the ranker, on any thread.
//
//export mlxrgo_last_error
func mlxrgo_last_error(handle C.mlxr_ranker, out *C.char, room C.int64_t, needed *C.int64_t) C.int32_t {
	last := ""
	if r, ok := rankers.get(int64(handle)); ok {
		r.mu.Lock()
		last = r.lastError
		r.mu.Unlock()
	}
	return toStatus(put(last, out, room, needed))
}

//export mlxrgo_copy
func mlxrgo_copy(text, out *C.char, room C.int64_t, needed *C.int64_t) C.int32_t {
	return toStatus(put(C.GoString(text), out, room, needed))
}

//export mlxrgo_cancellation_new
func mlxrgo_cancellation_new(handle *C.mlxr_cancellation, message *C.char) C.int32_t {
	return guard(message, func() error {
		if handle == nil {
			return invalid("the pointer to the cancellation is NULL")
		}
		c := new(cancellation)
		c.ctx, c.cancel = context.WithCancel(context.Background())
		*handle = C.mlxr_cancellation(cancellations.add(c))
		return nil
	})
}

//export mlxrgo_cancel
func mlxrgo_cancel(handle C.mlxr_cancellation, message *C.char) C.int32_t {
	return guard(message, func() error {
		c, ok := cancellations.get(int64(handle))
		if !ok {
			return failf(C.MLXR_CLOSED, "cancellation %d is not open", int64(handle))
		}
		c.cancel()
		return nil
	})
}

//export mlxrgo_cancellation_free
func mlxrgo_cancellation_free(handle C.mlxr_cancellation, message *C.char) C.int32_t {
	return guard(message, func() error {
		if !cancellations.was(int64(handle)) {
			return failf(C.MLXR_CLOSED, "cancellation %d never existed", int64(handle))
		}
		cancellations.remove(int64(handle))
		return nil
	})
}
