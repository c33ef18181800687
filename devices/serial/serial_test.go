package serial

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

// pulses is an interrupt line that remembers each pulse, up to its capacity.
type pulses chan struct{}

func (p pulses) Pulse() error {
	p <- struct{}{}
	return nil
}

// count returns how often the line was pulsed since it was last asked.
func (p pulses) count() int {
	for n := 0; ; n++ {
		select {
		case <-p:
		default:
			return n
		}
	}
}

// guest is the driver's side of a UART.
type guest struct {
	*UART
	irq pulses
}

func newGuest(t testing.TB, out io.Writer) guest {
	t.Helper()
	g := guest{irq: make(pulses, 1<<16)}
	g.UART = New(out, g.irq)
	t.Cleanup(func() { _ = g.Close() })
	return g
}

func (g guest) in(reg uint64) byte {
	var p [1]byte
	g.Read(reg, p[:])
	return p[0]
}

func (g guest) out(reg uint64, v byte) { g.Write(reg, []byte{v}) }

// TestLinuxProbe goes through what Linux' 8250 driver does to find out what it
// has before it: drivers/tty/serial/8250/8250_port.c, autoconfig.
func TestLinuxProbe(t *testing.T) {
	g := newGuest(t, io.Discard)

	g.out(regIER, 0x0f)
	if v := g.in(regIER); v != 0x0f {
		t.Errorf("IER reads %#x after 0xf was written: no 8250 there", v)
	}
	g.out(regIER, 0)
	if v := g.in(regIER); v != 0 {
		t.Errorf("IER reads %#x after 0 was written", v)
	}

	g.out(regMCR, mcrLoop|mcrOut2|mcrRTS)
	if v := g.in(regMSR) & 0xf0; v != 0x90 {
		t.Errorf("MSR in loopback is %#x, want 0x90: the loopback test fails", v)
	}
	g.out(regMCR, 0)

	g.out(regLCR, 0xbf)
	g.out(regIIR, 0)
	g.out(regLCR, 0)
	g.out(regIIR, fcrEnable)
	if v := g.in(regIIR) >> 6; v != 3 {
		t.Fatalf("IIR bits 7:6 are %#b with the FIFO on, want 11: not a 16550A", v)
	}

	// Nothing better than a 16550A: no enhanced features register, ...
	for _, lcr := range []byte{0x80, 0xbf} {
		g.out(regLCR, lcr)
		if v := g.in(2); v == 0 {
			t.Errorf("register 2 with LCR %#x reads 0: taken for an EFR", lcr)
		}
	}
	// ... no 64-byte FIFO, ...
	g.out(regLCR, 0)
	g.out(regIIR, fcrEnable|0x20)
	if v := g.in(regIIR) & 0x20; v != 0 {
		t.Error("IIR bit 5 is set: taken for a 16750")
	}
	// ... no unit enable bit.
	g.out(regIER, 0x40)
	if v := g.in(regIER) & 0x40; v != 0 {
		t.Error("IER bit 6 sticks: taken for an XScale")
	}
}

// TestLinuxTransmitterChecks goes through the tests for broken transmitters in
// serial8250_do_startup: failing one makes Linux poll by a timer.
func TestLinuxTransmitterChecks(t *testing.T) {
	g := newGuest(t, io.Discard)
	for range 2 {
		g.out(regIER, ierTHRI)
		if g.irq.count() == 0 {
			t.Error("no interrupt when the transmitter's is unmasked")
		}
		if v := g.in(regIIR) & 0x0f; v != iirTHRI {
			t.Errorf("IIR is %#x after unmasking, want %#x", v, iirTHRI)
		}
		if v := g.in(regIIR) & 0x0f; v != iirNone {
			t.Errorf("IIR is %#x after it was read, want %#x", v, iirNone)
		}
		g.out(regIER, 0)
	}
}

func TestOutputInOrder(t *testing.T) {
	var out bytes.Buffer
	g := newGuest(t, &out)
	want := strings.Repeat("the quick brown fox jumps over the lazy dog\r\n", 1000)
	for i := range len(want) {
		g.out(regData, want[i])
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Errorf("%d bytes came out, not the %d that went in", out.Len(), len(want))
	}
	if diff := cmp.Diff(Stats{Sent: uint64(len(want))}, g.Stats()); diff != "" {
		t.Error(diff)
	}
	g.out(regData, 'x')
	if got := g.Stats().Dropped; got != 1 {
		t.Errorf("%d bytes dropped after Close, want 1", got)
	}
}

// TestInterruptDrivenOutput writes a FIFO's worth an interrupt, and nothing
// without one, as a driver does.
func TestInterruptDrivenOutput(t *testing.T) {
	var out bytes.Buffer
	g := newGuest(t, &out)
	want := strings.Repeat("0123456789abcdefghijklmno", 400)
	g.out(regIIR, fcrEnable)
	g.out(regIER, ierTHRI)
	for left := want; left != ""; {
		select {
		case <-g.irq:
		case <-t.Context().Done():
			t.Fatalf("no interrupt with %d bytes to go", len(left))
		}
		if g.in(regIIR)&0x0f != iirTHRI {
			continue
		}
		n := min(fifoSize, len(left))
		for i := range n {
			g.out(regData, left[i])
		}
		left = left[n:]
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Errorf("%d bytes came out, not the %d that went in", out.Len(), len(want))
	}
}

// gate is a writer that takes nothing until it is opened.
type gate struct {
	open chan struct{}
	bytes.Buffer
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	return g.Buffer.Write(p)
}

func TestSlowWriter(t *testing.T) {
	out := &gate{open: make(chan struct{})}
	g := newGuest(t, out)
	// A driver that looks at LSR stops before it loses anything, ...
	var want []byte
	for g.in(regLSR)&lsrTHRE != 0 {
		for range fifoSize {
			want = append(want, byte(len(want)))
			g.out(regData, want[len(want)-1])
		}
		if len(want) > 3*bufferSize {
			t.Fatal("the buffer is not bounded")
		}
	}
	if got := g.Stats().Dropped; got != 0 {
		t.Errorf("%d bytes dropped although the guest waited", got)
	}
	// ... one that does not, loses the rest.
	for range bufferSize {
		g.out(regData, 0)
	}
	if got := g.Stats().Dropped; got == 0 {
		t.Error("nothing dropped although the guest wrote on")
	}
	close(out.open)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(out.Bytes(), want) {
		t.Error("what was written while there was room is not what came out")
	}
	if v := g.in(regLSR); v&lsrTHRE == 0 {
		t.Errorf("LSR is %#x after the writer went on, want THRE", v)
	}
}

func TestStuckWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &gate{open: make(chan struct{})}
		g := newGuest(t, out)
		g.out(regData, 'x')
		synctest.Wait()
		if err := g.Close(); !errors.Is(err, ErrNotFlushed) {
			t.Errorf("Close returned %v, want %v", err, ErrNotFlushed)
		}
		close(out.open)
	})
}

type failing struct{ err error }

func (f failing) Write(p []byte) (int, error) { return len(p) / 2, f.err }

func TestFailingWriter(t *testing.T) {
	g := newGuest(t, failing{io.ErrClosedPipe})
	for range 3 * bufferSize {
		g.out(regData, 'x')
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	s := g.Stats()
	if !errors.Is(s.Err, io.ErrClosedPipe) {
		t.Errorf("the error is %v, want %v", s.Err, io.ErrClosedPipe)
	}
	if s.Sent+s.Dropped != 3*bufferSize || s.Dropped == 0 {
		t.Errorf("%d sent and %d dropped of %d", s.Sent, s.Dropped, 3*bufferSize)
	}
	if v := g.in(regLSR); v&lsrTHRE == 0 {
		t.Errorf("LSR is %#x: the guest would wait for ever", v)
	}
}

// TestInput reads as an interrupt-driven driver does: what is there at each
// interrupt, and nothing without one.
func TestInput(t *testing.T) {
	g := newGuest(t, io.Discard)
	want := strings.Repeat("echo hello\n", 500)
	g.out(regIIR, fcrEnable)
	g.out(regMCR, mcrDTR|mcrRTS)
	g.out(regIER, ierRDI)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := g.Run(t.Context(), strings.NewReader(want)); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	var got strings.Builder
	for got.Len() < len(want) {
		select {
		case <-g.irq:
		case <-t.Context().Done():
			t.Fatalf("no interrupt after %d bytes", got.Len())
		}
		for g.in(regLSR)&lsrDR != 0 {
			got.WriteByte(g.in(regData))
		}
	}
	wg.Wait()
	if got.String() != want {
		t.Error("what came in is not what was sent")
	}
	if n := g.Stats().Received; n != uint64(len(want)) {
		t.Errorf("%d bytes counted, want %d", n, len(want))
	}
}

// TestInputWaitsForDriver holds input back until the guest listens: it would be
// lost when the driver empties the FIFO.
func TestInputWaitsForDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuest(t, io.Discard)
		var wg sync.WaitGroup
		wg.Go(func() { _ = g.Run(t.Context(), strings.NewReader("hi")) })
		synctest.Wait()
		if g.in(regLSR)&lsrDR != 0 {
			t.Error("input arrived while RTS was off")
		}
		g.out(regIIR, fcrEnable|fcrClearRX)
		g.out(regMCR, mcrRTS)
		wg.Wait()
		if got := string([]byte{g.in(regData), g.in(regData)}); got != "hi" {
			t.Errorf("read %q, want hi", got)
		}
	})
}

func TestRunEnds(t *testing.T) {
	wantErr := errors.New("broken terminal")
	pipe, _ := io.Pipe()
	defer pipe.Close()
	for name, tt := range map[string]struct {
		in   io.Reader
		want error
	}{
		"input ends":            {strings.NewReader("x"), nil},
		"input fails":           {io.MultiReader(strings.NewReader("x"), errReader{wantErr}), wantErr},
		"context, reader idle":  {pipe, context.Canceled},
		"context, guest asleep": {strings.NewReader(strings.Repeat("x", fifoSize+1)), context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t, io.Discard)
			g.out(regMCR, mcrRTS)
			ctx, cancel := context.WithCancel(t.Context())
			if tt.want == context.Canceled {
				cancel()
			}
			defer cancel()
			if err := g.Run(ctx, tt.in); !errors.Is(err, tt.want) {
				t.Errorf("Run returned %v, want %v", err, tt.want)
			}
		})
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestReceiveInterrupt(t *testing.T) {
	g := newGuest(t, io.Discard)
	g.out(regMCR, mcrRTS)
	g.accept([]byte("ab"))
	if n := g.irq.count(); n != 0 {
		t.Errorf("%d interrupts while masked", n)
	}
	g.out(regIER, ierRDI)
	if n := g.irq.count(); n != 1 {
		t.Errorf("%d interrupts when unmasked, want 1", n)
	}
	if v := g.in(regIIR) & 0x0f; v != iirRDI {
		t.Errorf("IIR is %#x, want %#x", v, iirRDI)
	}
	g.in(regData)
	g.accept([]byte("c"))
	if n := g.irq.count(); n != 0 {
		t.Errorf("%d interrupts for more of what was told already", n)
	}
	g.in(regData)
	g.in(regData)
	if v := g.in(regIIR) & 0x0f; v != iirNone {
		t.Errorf("IIR is %#x when all is read, want %#x", v, iirNone)
	}
	g.accept([]byte("d"))
	if n := g.irq.count(); n != 1 {
		t.Errorf("%d interrupts for new input, want 1", n)
	}
}

func TestTriggerLevel(t *testing.T) {
	g := newGuest(t, io.Discard)
	g.out(regMCR, mcrRTS)
	g.out(regIER, ierRDI)
	g.out(regIIR, fcrEnable|2<<6)
	for n := 1; n <= fifoSize; n++ {
		g.accept([]byte{0})
		want := byte(iirFIFO | iirTimeout)
		if n >= 8 {
			want = iirFIFO | iirRDI
		}
		if v := g.in(regIIR); v != want {
			t.Errorf("IIR is %#x with %d bytes, want %#x", v, n, want)
		}
	}
}

func TestLoopback(t *testing.T) {
	var out bytes.Buffer
	g := newGuest(t, &out)
	g.out(regIIR, fcrEnable)
	g.out(regMCR, mcrLoop)
	g.out(regIER, ierRLSI)
	for i := range fifoSize {
		g.out(regData, byte(i))
	}
	if v := g.in(regLSR); v&(lsrDR|lsrOE) != lsrDR {
		t.Errorf("LSR is %#x with a full FIFO, want data and no overrun", v)
	}
	g.irq.count()
	g.out(regData, 0xff)
	if g.irq.count() != 1 || g.in(regIIR)&0x0f != iirRLSI {
		t.Error("no line status interrupt on overrun")
	}
	if v := g.in(regLSR); v&lsrOE == 0 {
		t.Errorf("LSR is %#x after an overrun", v)
	}
	if v := g.in(regLSR); v&lsrOE != 0 {
		t.Errorf("LSR is %#x after it was read: the overrun stays", v)
	}
	for i := range fifoSize {
		if v := g.in(regData); v != byte(i) {
			t.Errorf("byte %d is %d", i, v)
		}
	}
	if err := g.Close(); err != nil || out.Len() != 0 {
		t.Errorf("%q came out in loopback (%v)", out.String(), err)
	}
}

func TestRegisters(t *testing.T) {
	g := newGuest(t, io.Discard)
	g.out(regLCR, lcrDLAB|3)
	g.Write(0, []byte{0x34, 0x12}) // both halves of the divisor at once
	var p [2]byte
	g.Read(0, p[:])
	if p != [2]byte{0x34, 0x12} {
		t.Errorf("the divisor reads % x", p)
	}
	g.out(regLCR, 3)
	if v := g.in(regIER); v != 0 {
		t.Errorf("IER is %#x: the divisor went there", v)
	}
	g.out(regSCR, 0xa5)
	if v := g.in(regSCR); v != 0xa5 {
		t.Errorf("SCR reads %#x", v)
	}
	past := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	g.Read(regSCR, past)
	if diff := cmp.Diff([]byte{0xa5, 0, 0, 0, 0, 0, 0, 0}, past); diff != "" {
		t.Error("an access past the registers:", diff)
	}
}
