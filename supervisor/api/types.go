package api

import (
	"encoding/json"
	"time"
)

// VM is a virtual machine that a process hosts.
type VM struct {
	Name    string    `json:"name"`
	PID     int       `json:"pid"`    // of the process
	CPUs    int       `json:"cpus"`   // virtual ones
	Memory  uint64    `json:"memory"` // bytes of RAM
	Kernel  string    `json:"kernel,omitempty"`
	Started time.Time `json:"started"`
}

// Item is a line of a stream: a value, or the error that ended the stream.
type Item struct {
	Item  json.RawMessage `json:"item,omitempty"`
	Error *Error          `json:"error,omitempty"`
}

// A Code says why something failed, for programs.
type Code string

// The codes of an [Error].
const (
	BadRequest  Code = "bad-request"
	Forbidden   Code = "forbidden"
	NotFound    Code = "not-found"   // no such VM, or nothing of that name in it
	Unavailable Code = "unavailable" // this VM cannot answer that: the text says why
	Internal    Code = "internal"
)

// Error is a failure as the other process told it.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

var statuses = map[Code]int{BadRequest: 400, Forbidden: 403, NotFound: 404, Unavailable: 409, Internal: 500}
