// Package mirror keeps a host's supervisor: one that is made from a clean image, and
// when it is lost another one in its place.
//
//	            ┌──────────── again, after a pause ◀───────┐
//	            ▼                                          │ failed
//	Start ──▶ made ──▶ connected ──▶ supervises ──▶ lost ──┴──▶ the next is made
//
// A supervisor is lost when its VM or its program ends, when it does not answer, when
// there is something in it that it was not made with (secmon/integrity), and when somebody says that it is to be replaced: a person, or a rule that saw it
// attacked. Whatever the reason, its machine stands still before the next one is
// connected, and its credentials are good for nothing any more. What the services
// are doing goes on meanwhile, see supervisor/hosting.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"warder/supervisor"
	"warder/supervisor/hosting"
	"warder/supervisor/link"
)

const (
	// beat is the time from one sign of life to the next question for one.
	beat = 5 * time.Second
	// patience is how long a supervisor may take for it. A machine whose host stood
	// still has twice that.
	patience = 15 * time.Second
	// shortPause is before a further attempt to make a supervisor; it doubles up to
	// longPause. One that lasted for steady has begun a new row.
	shortPause = time.Second
	longPause  = time.Minute
	steady     = time.Minute
	// firstTries is how often the first one is made whose guest fails to come up. A host
	// that cannot have one at all is to say so soon.
	firstTries = 3
)

// A Maker makes supervisors that know nobody yet.
type Maker interface {
	// Make makes one from the clean image, with credentials of its own, and gives
	// it once it has shown them. Nothing is left of it when there is an error.
	Make(context.Context) (Supervisor, error)
}

// A Supervisor is one of a Maker's.
type Supervisor interface {
	// Conn is the connection to it, whose peer is known.
	Conn() io.ReadWriteCloser
	// Done is closed when it is lost by itself, and Why says why then.
	Done() <-chan struct{}
	Why() error
	// Halt has it do nothing any more, at once. Discard gives back what it held,
	// and tells what was kept of it.
	Halt()
	Discard(lost bool) (kept string, err error)
}

// What happens to supervisors.
const (
	Began    = "supervisor-started"
	Lost     = "supervisor-lost"
	Mirrored = "supervisor-mirrored"
	Failed   = "supervisor-failed" // to be made
	Kept     = "supervisor-kept"   // its memory
)

// An Event is one of these.
type Event struct {
	Action string
	Text   string
}

// Status is what can be told of the supervisor that there is.
type Status struct {
	Up    bool      `json:"up"`
	Since time.Time `json:"since"` // up or not
	// Mirrors counts those that were made in place of another, Reason is why the
	// last one was, and Took how long it was from the report to the first answer.
	Mirrors int           `json:"mirrors"`
	Reason  string        `json:"reason,omitempty"`
	Took    time.Duration `json:"took_ns,omitempty"`
	// Failed is why there is none.
	Failed string `json:"failed,omitempty"`
}

// A Keeper keeps the supervisor of one host. It is safe for concurrent use.
type Keeper struct {
	host  *hosting.Host
	maker Maker
	tell  func(Event)
	log   *slog.Logger

	cancel context.CancelFunc
	done   chan struct{}
	orders chan order
	mu     sync.Mutex
	status Status
	change chan struct{} // closed when the status changes
}

// order is somebody's word that the supervisor is to be replaced.
type order struct {
	reason string
	at     time.Time
}

// Start makes the first supervisor, connects it to the host, and keeps it until
// Close. What happens is told to tell, which must not wait.
func Start(ctx context.Context, host *hosting.Host, maker Maker, tell func(Event), log *slog.Logger) (*Keeper, error) {
	k := &Keeper{host: host, maker: maker, tell: tell, log: log, done: make(chan struct{}), orders: make(chan order, 1), change: make(chan struct{})}
	began := time.Now()
	s, c, err := k.first(ctx)
	if err != nil {
		return nil, err
	}
	k.set(Status{Up: true, Since: time.Now()})
	tell(Event{Began, fmt.Sprintf("it answers after %v", round(time.Since(began)))})
	own, cancel := context.WithCancel(context.Background())
	k.cancel = cancel
	go k.keep(own, s, c)
	return k, nil
}

// first makes the first one. It is tried again where a guest failed, and not where the
// host cannot have one.
func (k *Keeper) first(ctx context.Context) (s Supervisor, c *link.Conn, err error) {
	for try := range firstTries {
		if try > 0 {
			k.tell(Event{Failed, err.Error()})
			k.log.Warn("the first supervisor is made again", "because", err)
		}
		s, c, err = k.make(ctx)
		if _, guest := errors.AsType[*supervisor.GuestError](err); !guest || ctx.Err() != nil {
			break
		}
	}
	return s, c, err
}

// make makes a supervisor that supervises.
func (k *Keeper) make(ctx context.Context) (Supervisor, *link.Conn, error) {
	s, err := k.maker.Make(ctx)
	if err != nil {
		return nil, nil, err
	}
	c, err := k.host.Connect(ctx, s.Conn())
	if err != nil {
		s.Halt()
		if _, e := s.Discard(false); e != nil {
			err = errors.Join(err, e)
		}
		return nil, nil, err
	}
	return s, c, nil
}

// keep replaces supervisors until ctx ends.
func (k *Keeper) keep(ctx context.Context, s Supervisor, c *link.Conn) {
	defer close(k.done)
	var discards sync.WaitGroup
	defer discards.Wait()
	pause := shortPause
	for {
		began := time.Now()
		lost, ok := k.watch(ctx, s, c)
		s.Halt()
		if !ok {
			s.Discard(false)
			return
		}
		k.tell(Event{Lost, lost.reason})
		k.log.Warn("the supervisor is replaced by another", "because", lost.reason)
		k.set(Status{Since: time.Now(), Mirrors: k.Status().Mirrors, Reason: lost.reason})
		old := s
		discards.Go(func() { k.discard(old) })
		if time.Since(began) >= steady {
			pause = shortPause
		}
		if s, c, pause = k.again(ctx, pause, time.Since(began) < steady); s == nil {
			return
		}
		took := time.Since(lost.at)
		k.set(Status{Up: true, Since: time.Now(), Mirrors: k.Status().Mirrors + 1, Reason: lost.reason, Took: took})
		k.tell(Event{Mirrored, fmt.Sprintf("another one answers, %v after the report: %s", round(took), lost.reason)})
	}
}

// again makes the next supervisor, however often that has to be tried; nil when ctx
// ends. One that lasted only for a moment is not followed by the next at once.
func (k *Keeper) again(ctx context.Context, pause time.Duration, soon bool) (Supervisor, *link.Conn, time.Duration) {
	for wait := soon && pause > shortPause; ; wait = true {
		if wait {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return nil, nil, pause
			}
		}
		pause = min(2*pause, longPause)
		s, c, err := k.make(ctx)
		if err == nil {
			return s, c, pause
		}
		if ctx.Err() != nil {
			return nil, nil, pause
		}
		k.tell(Event{Failed, err.Error()})
		k.log.Error("there is no supervisor: services run on, and requests wait", "because", err)
		st := k.Status()
		st.Failed = err.Error()
		k.set(st)
	}
}

// watch waits until a supervisor is lost, or ctx ends.
func (k *Keeper) watch(ctx context.Context, s Supervisor, c *link.Conn) (order, bool) {
	silent := make(chan error, 1)
	listening, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		if err := listen(listening, c); err != nil {
			silent <- err
		}
	}()
	lost := func(why string) (order, bool) { return order{why, time.Now()}, true }
	select {
	case <-ctx.Done():
		return order{}, false
	case o := <-k.orders:
		return o, true
	case <-s.Done():
		return lost(s.Why().Error())
	case <-c.Done():
		select {
		case <-s.Done(): // which says more, if it comes
			return lost(s.Why().Error())
		case <-time.After(time.Second):
		}
		return lost("it hung up")
	case err := <-silent:
		return lost("it does not answer: " + err.Error())
	}
}

// listen asks for signs of life until there is none, twice in a row.
func listen(ctx context.Context, c *link.Conn) error {
	for missed := 0; ; {
		asked, cancel := context.WithTimeout(ctx, patience)
		err := c.Call(asked, link.Ping, nil, nil)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			missed = 0
		case errors.Is(err, link.ErrGone):
			return nil // which is somebody else's to see
		default:
			if missed++; missed == 2 {
				return err
			}
			continue
		}
		select {
		case <-time.After(beat):
		case <-ctx.Done():
			return nil
		}
	}
}

// discard gives back what a supervisor held that was lost.
func (k *Keeper) discard(s Supervisor) {
	kept, err := s.Discard(true)
	switch {
	case err != nil:
		k.tell(Event{Kept, "not kept: " + err.Error()})
	case kept != "":
		k.tell(Event{Kept, "the memory of the one that was lost is in " + kept})
	}
}

// Mirror has the supervisor replaced, and gives the status once another one answers,
// or ctx ends. While one is being made already, that one is meant.
func (k *Keeper) Mirror(ctx context.Context, reason string) (Status, error) {
	k.mu.Lock()
	st, change := k.status, k.change
	if st.Up {
		select {
		case k.orders <- order{reason, time.Now()}:
		default: // there is an order already
		}
	}
	k.mu.Unlock()
	for before := st.Mirrors; !st.Up || st.Mirrors == before; {
		select {
		case <-change:
		case <-k.done:
			return st, errors.New("the host is stopping")
		case <-ctx.Done():
			return st, ctx.Err()
		}
		k.mu.Lock()
		st, change = k.status, k.change
		k.mu.Unlock()
	}
	return st, nil
}

// Status tells of the supervisor that there is.
func (k *Keeper) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.status
}

func (k *Keeper) set(s Status) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s.Up {
		select {
		case <-k.orders: // it was for the one before
		default:
		}
	}
	k.status = s
	close(k.change)
	k.change = make(chan struct{})
}

// Close ends the supervisor. The host's services have been stopped by then.
func (k *Keeper) Close() {
	k.cancel()
	<-k.done
}

// round is a time as one tells it.
func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
