package control

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// A slowReader of the host's takes its time for each piece of output.
type slowReader struct {
	bytes.Buffer
	each time.Duration
}

func (s *slowReader) Write(p []byte) (int, error) {
	time.Sleep(s.each)
	return s.Buffer.Write(p)
}

// TestLastOutput has the output of a guest that is gone read to its end by somebody
// slow, and a guest that goes on sending cut off.
func TestLastOutput(t *testing.T) {
	for name, tt := range map[string]struct {
		sends, want int
		end         bool // of the stream
	}{
		"ends":       {5000, 5000, true},
		"stays open": {5000, 5000, false},
		"has no end": {2 * lastBytes, lastBytes, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				host, guest := net.Pipe()
				gone := make(chan struct{})
				close(gone)
				defer guest.Close()
				go func() {
					for rest := tt.sends; rest > 0; rest -= 1000 {
						if _, err := guest.Write(make([]byte, min(rest, 1000))); err != nil {
							return
						}
					}
					if tt.end {
						guest.Close()
					}
				}()
				slow := &slowReader{each: 3 * lastRead}
				if err := drain(slow, host, gone); err != nil {
					t.Error(err)
				}
				host.Close()
				if slow.Len() != tt.want {
					t.Errorf("%d of %d bytes, want %d", slow.Len(), tt.sends, tt.want)
				}
			})
		})
	}
}

// TestOutputWaits has a read begin before the guest is gone: it ends in time, and
// what comes then is read all the same.
func TestOutputWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, guest := net.Pipe()
		defer guest.Close()
		gone := make(chan struct{})
		go func() {
			time.Sleep(time.Hour)
			close(gone)
			host.SetReadDeadline(time.Now().Add(lastRead))
			io.WriteString(guest, "last")
			io.WriteString(guest, " words")
			guest.Close()
		}()
		slow := &slowReader{each: 3 * lastRead}
		if err := drain(slow, host, gone); err != nil || slow.String() != "last words" {
			t.Errorf("%q, %v", slow.String(), err)
		}
	})
}
