package services

import (
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

// Active tells whether a service in the state holds resources.
func (s State) Active() bool { return s == Starting || s == Running || s == Stopping || s == Waiting }

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

// Sized is a change of what a service is let have.
type Sized struct {
	From sizing.Size `json:"from"`
	To   sizing.Size `json:"to"`
}
