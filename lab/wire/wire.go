// Package wire is the protocol between the host and the agent in the lab's
// outer machine: typed, length-prefixed frames over one ordered byte stream.
//
// The agent says Hello when it is up, then one command at a time runs:
//
//	host   Start Stdin… StdinEnd Resize… Signal…
//	agent  StdinCredit… Stdout… Stderr… Result… Exit
//
// and the agent sends Alive every AlivePeriod, whatever else happens, so that
// a machine that stopped can be told from one that is quiet. Standard input
// is under flow control (the host may have StdinWindow bytes under way that
// no StdinCredit has returned), because the command may never read it; the
// other direction needs none, since the host always reads.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// PortName is the name of the virtio-serial port that carries the stream.
const PortName = "org.warder.lab"

// AlivePeriod is the time between two Alive frames.
const AlivePeriod = time.Second

// StdinWindow is how much standard input may be under way, in bytes.
const StdinWindow = 256 << 10

// MaxPayload is the largest payload of a frame, in bytes.
const MaxPayload = 128 << 10

// Type says what a frame carries.
type Type uint8

// The frames. Payloads are raw bytes unless a type is named.
const (
	Hello       Type = iota + 1 // agent: ready for a command; payload HelloInfo
	Alive                       // agent: no payload
	Start                       // host: run a command; payload StartInfo
	Stdin                       // host: bytes for standard input
	StdinEnd                    // host: end of standard input
	StdinCredit                 // agent: that many bytes were consumed; payload Count
	Signal                      // host: send a signal to the command's process group; payload Count
	Resize                      // host: new terminal size; payload Size
	Stdout                      // agent: bytes of standard output
	Stderr                      // agent: bytes of standard error
	Result                      // agent: bytes of a tar stream of the results directory
	Exit                        // agent: the command ended and everything of it was sent; payload ExitInfo
)

// HelloInfo describes the outer machine.
type HelloInfo struct {
	Kernel string  // release, as uname -r
	CPUs   int     // processors on line
	KVM    bool    // /dev/kvm can be opened
	Uptime float64 // seconds since the kernel started
}

// StartInfo is a command to run.
type StartInfo struct {
	Args    []string // Args[0] is looked up in PATH when it has no slash
	Env     []string // NAME=VALUE, replacing the agent's defaults of the same name
	Dir     string   // working directory, / if empty
	Results string   // directory sent back as a tar stream, none if empty
	TTY     bool     // run on a pseudo-terminal; there is no Stderr then
	Size    Size     // its first size
}

// Size is the size of a terminal in characters.
type Size struct{ Columns, Rows uint16 }

// Count is a number of bytes or of a signal.
type Count struct{ N int }

// ExitInfo is how a command ended.
type ExitInfo struct {
	Status int           // exit status; 128 + the signal's number when one ended it
	Err    string        // why it could not be started, or why results are missing
	Start  time.Duration // the machine's monotonic clock when it was started
	End    time.Duration // and when its end was seen
}

// A Frame is one message.
type Frame struct {
	Type    Type
	Payload []byte
}

// Decode reads a JSON payload.
func (f Frame) Decode(v any) error {
	if err := json.Unmarshal(f.Payload, v); err != nil {
		return fmt.Errorf("lab protocol: frame %d: %w", f.Type, err)
	}
	return nil
}

const headerSize = 5

// Read reads one frame. The payload belongs to the caller. At the clean end of
// the stream it returns io.EOF.
func Read(r io.Reader) (Frame, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return Frame{}, err
	}
	n := binary.LittleEndian.Uint32(h[1:])
	if n > MaxPayload {
		return Frame{}, fmt.Errorf("lab protocol: frame %d of %d bytes, at most %d allowed", h[0], n, MaxPayload)
	}
	f := Frame{Type: Type(h[0]), Payload: make([]byte, n)}
	if _, err := io.ReadFull(r, f.Payload); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	return f, nil
}

// A Writer writes frames. It is safe for concurrent use: frames do not mix.
type Writer struct {
	mu sync.Mutex
	w  io.Writer
	b  []byte
}

// NewWriter returns a Writer on w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write sends p in as many frames of type t as it takes, at least one.
func (w *Writer) Write(t Type, p []byte) error {
	for {
		n := min(len(p), MaxPayload)
		if err := w.frame(t, p[:n]); err != nil {
			return err
		}
		if p = p[n:]; len(p) == 0 {
			return nil
		}
	}
}

func (w *Writer) frame(t Type, p []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b = append(w.b[:0], byte(t))
	w.b = binary.LittleEndian.AppendUint32(w.b, uint32(len(p)))
	w.b = append(w.b, p...)
	_, err := w.w.Write(w.b)
	return err
}

// WriteJSON sends v as the payload of one frame of type t.
func (w *Writer) WriteJSON(t Type, v any) error {
	p, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(p) > MaxPayload {
		return fmt.Errorf("lab protocol: %d bytes do not fit a frame", len(p))
	}
	return w.frame(t, p)
}

// Stream returns an io.Writer that sends what is written to it as frames of
// type t.
func (w *Writer) Stream(t Type) io.Writer { return stream{w, t} }

type stream struct {
	w *Writer
	t Type
}

func (s stream) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.w.Write(s.t, p); err != nil {
		return 0, err
	}
	return len(p), nil
}
