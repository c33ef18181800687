package hosting

import (
	"context"
	"time"

	"warder/supervisor/services"
)

// An Event is a change of a service's state, or of what it is let have.
type Event struct {
	Seq     uint64         `json:"seq"`
	Time    time.Time      `json:"time"`
	Service string         `json:"service"`
	State   services.State `json:"state"`
	Why     string         `json:"why,omitempty"`
	By      string         `json:"by,omitempty"`
	// Sized is set when the service's size has changed, and its state has not.
	Sized *services.Sized `json:"sized,omitempty"`
	// Lost is how many events before this one are not kept any more.
	Lost uint64 `json:"lost,omitempty"`
}

// eventRoom is how much of what happened is kept, in bytes.
const eventRoom = 256 << 10

func newEvents() *tape[Event] {
	const overhead = 128
	return newTape(eventRoom, func(e Event) int { return len(e.Why) + len(e.Service) + len(e.By) + overhead })
}

// Events hands what has happened, as far as it is kept, to put, and with follow
// goes on until ctx ends or put fails. Of all services when name is "".
func (h *Host) Events(ctx context.Context, name string, follow bool, put func(Event) error) error {
	if name != "" {
		if _, _, err := h.find(name); err != nil {
			return err
		}
	}
	var lost uint64
	return play(ctx, h.events, 0, follow, func(e Event, more uint64) error {
		lost += more
		if name != "" && e.Service != name {
			return nil
		}
		e.Lost, lost = lost, 0
		return put(e)
	})
}
