package services

import (
	"context"
	"time"

	"warder/guestinit/proto"
	"warder/supervisor/declaration"
	"warder/supervisor/sizing"
)

// A State is where a service is in its life:
//
//	            ┌────────────────── waiting ◀─────────┐
//	            ▼                                     │ by its restart policy
//	stopped ──▶ starting ──▶ running ──▶ stopping ──▶ ended
//	            │                                     failed
//	            └──▶ failed
type State string

// The states of a service. It holds resources in those between Stopped and the
// last two.
const (
	Stopped  State = "stopped"  // nobody has started it, or it was told to stop
	Starting State = "starting" // until its command runs, and is well if that can be told
	Running  State = "running"
	Stopping State = "stopping"
	Waiting  State = "waiting" // to be started again
	Ended    State = "ended"   // by itself, with status 0
	Failed   State = "failed"
)

// active tells whether a service in the state holds resources.
func (s State) active() bool { return s == Starting || s == Running || s == Stopping || s == Waiting }

// Status is what can be told of a service.
type Status struct {
	Name  string    `json:"name"`
	State State     `json:"state"`
	Since time.Time `json:"since"`
	// Why is the reason of the state where there is one to tell.
	Why string `json:"why,omitempty"`
	// Health is what the last check of it found: "", "ok", or why it is not.
	Health string `json:"health,omitempty"`
	// Starts counts the VMs that it has had since somebody started it.
	Starts int `json:"starts"`
	// By is who started it.
	By string `json:"by,omitempty"`
	// Exit is how its command ended the last time.
	Exit *proto.Status `json:"exit,omitempty"`

	Service declaration.Service `json:"service"` // with its defaults
}

// An Event is a change of a service's state, or of what it is let have.
type Event struct {
	Seq     uint64    `json:"seq"`
	Time    time.Time `json:"time"`
	Service string    `json:"service"`
	State   State     `json:"state"`
	Why     string    `json:"why,omitempty"`
	By      string    `json:"by,omitempty"`
	// Sized is set when the service's size has changed, and its state has not.
	Sized *Sized `json:"sized,omitempty"`
	// Lost is how many events before this one are not kept any more.
	Lost uint64 `json:"lost,omitempty"`
}

// Sized is a change of what a service is let have.
type Sized struct {
	From sizing.Size `json:"from"`
	To   sizing.Size `json:"to"`
}

// eventRoom is how much of what happened is kept, in bytes.
const eventRoom = 256 << 10

func newEvents() *tape[Event] {
	const overhead = 128
	return newTape(eventRoom, func(e Event) int { return len(e.Why) + len(e.Service) + len(e.By) + overhead })
}

// Events hands what has happened, as far as it is kept, to put, and with follow
// goes on until ctx ends or put fails. Of all services when name is "".
func (s *Set) Events(ctx context.Context, name string, follow bool, put func(Event) error) error {
	if name != "" {
		if _, err := s.find(name); err != nil {
			return err
		}
	}
	var lost uint64
	return play(ctx, s.events, 0, follow, func(e Event, more uint64) error {
		lost += more
		if name != "" && e.Service != name {
			return nil
		}
		e.Lost, lost = lost, 0
		return put(e)
	})
}
