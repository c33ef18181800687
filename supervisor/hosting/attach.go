package hosting

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"warder/guestinit/control"
	"warder/guestinit/proto"
	"warder/supervisor/declaration"
	"warder/supervisor/services"
)

// A Piece is some of what a service's command wrote, as it came, or its end.
type Piece struct {
	Stream string // stdout, stderr
	Data   []byte
	// Lost is how many bytes before this one were not kept, for one who follows too slowly.
	Lost uint64
	// Exit is how the command ended, Err why that is not known; nothing follows.
	Exit *proto.Status
	Err  error

	at uint64 // how many bytes came before
}

// pieceRoom is how much output waits for who follows it, in bytes.
const pieceRoom = 256 << 10

// ties are what the command of one VM can be attached by.
type ties struct {
	input   typed
	process Process // set before anybody is attached

	mu    sync.Mutex
	users int          // who are attached
	out   *tape[Piece] // nil while there are none
	said  uint64       // bytes
	over  bool
}

func newTies() *ties { return &ties{input: typed{words: make(chan []byte), done: make(chan struct{})}} }

// writer keeps a stream of the command for who is attached. It never fails.
func (t *ties) writer(stream string) io.Writer { return tiedStream{t, stream} }

type tiedStream struct {
	ties   *ties
	stream string
}

func (w tiedStream) Write(p []byte) (int, error) {
	t := w.ties
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.out != nil {
		t.out.add(func(uint64) Piece { return Piece{Stream: w.stream, Data: append([]byte(nil), p...), at: t.said} })
	}
	t.said += uint64(len(p))
	return len(p), nil
}

// end tells who is attached that the command has ended.
func (t *ties) end(status proto.Status, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	close(t.input.done)
	if t.out != nil {
		last := Piece{Err: err, at: t.said}
		if err == nil {
			last.Exit = &status
		}
		t.out.add(func(uint64) Piece { return last })
	}
}

// typed is the input of a command: what those type who are attached, piece by piece.
type typed struct {
	words chan []byte
	done  chan struct{} // closed when there is nobody to read it any more
	rest  []byte
}

// Read has one caller at a time.
func (t *typed) Read(p []byte) (int, error) {
	if len(t.rest) == 0 {
		select {
		case t.rest = <-t.words:
		case <-t.done:
			return 0, io.EOF
		}
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

// An Attachment is somebody's hold on the command of a service. Close it after use.
type Attachment struct {
	ties *ties
	out  *tape[Piece]
	from uint64 // the first piece of the tape that is meant
	said uint64 // bytes before it
	once sync.Once

	input bool
}

// Attach gives a hold on the command that a service runs now: what it writes from here
// on, and its input, if it is declared to have one.
func (h *Host) Attach(name string) (*Attachment, error) {
	_, d, err := h.find(name)
	if err != nil {
		return nil, err
	}
	t := h.tiesOf(name)
	if t == nil {
		return nil, fmt.Errorf("%w: %s has no command that runs now", services.ErrState, name)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return nil, fmt.Errorf("%w: the command of %s has ended", services.ErrState, name)
	}
	if t.users++; t.out == nil {
		const overhead = 96 // bytes of a Piece beside its data
		t.out = newTape(pieceRoom, func(p Piece) int { return len(p.Data) + overhead })
	}
	return &Attachment{ties: t, out: t.out, from: t.out.last(0), said: t.said, input: d.Stdin || d.TTY}, nil
}

// tiesOf gives what the command of a service can be attached by, nil unless it runs.
func (h *Host) tiesOf(name string) *ties {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.services[name]; s != nil && s.vm != nil && s.vm.ran.over() && s.vm.ran.err == nil {
		return s.vm.ties
	}
	return nil
}

// stdio is what the streams of a service's command are tied to.
func (t *ties) stdio(d declaration.Service, log *tape[Line]) (control.Stdio, func()) {
	out, err := &splitter{log: log, stream: "stdout"}, &splitter{log: log, stream: "stderr"}
	stdio := control.Stdio{Out: io.MultiWriter(t.writer("stdout"), out), Err: io.MultiWriter(t.writer("stderr"), err)}
	if d.Stdin || d.TTY {
		stdio.In = &t.input
	}
	return stdio, func() { out.flush(); err.flush() }
}

// Close lets go of the command.
func (a *Attachment) Close() {
	a.once.Do(func() {
		a.ties.mu.Lock()
		defer a.ties.mu.Unlock()
		if a.ties.users--; a.ties.users == 0 {
			a.ties.out = nil
		}
	})
}

var errLast = errors.New("the last piece")

// Follow hands the command's output to put until it ends, which the last piece tells, or
// put fails, or ctx ends.
func (a *Attachment) Follow(ctx context.Context, put func(Piece) error) error {
	said := a.said
	err := play(ctx, a.out, a.from, true, func(p Piece, _ uint64) error {
		p.Lost, said = p.at-said, p.at+uint64(len(p.Data))
		if err := put(p); err != nil {
			return err
		}
		if p.Exit != nil || p.Err != nil {
			return errLast
		}
		return nil
	})
	if err == errLast {
		return nil
	}
	return err
}

// HasInput tells whether the command has an input.
func (a *Attachment) HasInput() bool { return a.input }

// Type hands the command input, and waits until it takes the one before.
func (a *Attachment) Type(ctx context.Context, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	select {
	case a.ties.input.words <- append([]byte(nil), p...):
		return nil
	case <-a.ties.input.done:
		return fmt.Errorf("%w: the command has ended", services.ErrState)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Resize changes the size of the command's terminal, in characters.
func (a *Attachment) Resize(ctx context.Context, cols, rows uint16) error {
	return a.ties.process.Resize(ctx, cols, rows)
}
