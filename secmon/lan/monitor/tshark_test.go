package monitor_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"warder/internal/oracle"
	"warder/secmon/lan/filter"
	"warder/secmon/lan/pcapng"
)

// TestTsharkAgrees captures conversations of many kinds, segments out of order and sent
// twice among them, and has tshark read them: it finds the same questions, requests,
// answers, names and flows.
func TestTsharkAgrees(t *testing.T) {
	tshark := oracle.Command(t, "tshark", "tshark")
	w := newWorld(t)
	all, err := filter.Parse("")
	if err != nil {
		t.Fatal(err)
	}
	tap := w.mon.Capture(all, 1<<16)
	sent := converse(t, w)
	path := filepath.Join(t.TempDir(), "x.pcapng")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := pcapng.NewWriter(file, "warder", "", 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	n, err := p.Interface(pcapng.Ethernet, "lan", "")
	if err != nil {
		t.Fatal(err)
	}
	frames := 0
	for tap.Waits() {
		c, err := tap.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Frame(n, c.Time, c.Data, c.Len, ""); err != nil {
			t.Fatal(err)
		}
		frames++
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if s := w.mon.Stats(); frames != sent || s.Frames != uint64(sent) || tap.Lost() != 0 {
		t.Fatalf("%d frames sent, %d captured, %d lost, %d seen", sent, frames, tap.Lost(), s.Frames)
	}

	for _, c := range []struct {
		what string // of an event's line
		args []string
		of   func(words []string) string
	}{
		{"dns-query", []string{"-Y", "dns.flags.response==0", "-e", "dns.qry.name"}, func(w []string) string { return w[6] }},
		{"dns-answer", []string{"-Y", "dns.flags.response==1", "-e", "dns.a"}, func(w []string) string {
			_, answers, _ := strings.Cut(w[7], "[")
			return strings.TrimSuffix(answers, "]")
		}},
		{"http-request", []string{"-Y", "http.request", "-e", "http.request.method", "-e", "http.host", "-e", "http.request.uri"}, func(w []string) string { return strings.Join(w[5:8], " ") }},
		{"http-response", []string{"-Y", "http.response", "-e", "http.response.code"}, func(w []string) string { return w[5] }},
		{"tls-hello", []string{"-Y", "tls.handshake.type==1", "-e", "tls.handshake.extensions_server_name"}, func(w []string) string { return w[5] }},
		{"ssh-banner", []string{"-Y", "ssh.protocol", "-e", "ssh.protocol"}, func(w []string) string { return strings.Trim(w[5], "()") }},
		{"flow start", []string{"-Y", "tcp.flags.syn==1 && tcp.flags.ack==0", "-e", "tcp.dstport"}, nil},
	} {
		cmd := exec.CommandContext(t.Context(), tshark, append([]string{"-r", path, "-o", "tcp.reassemble_out_of_order:TRUE", "-T", "fields", "-E", "separator=/s"}, c.args...)...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v, %s", cmd.Args, err, stderr.Bytes())
		}
		want := strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
		var got []string
		w.mu.Lock()
		for i := range w.events {
			e := &w.events[i]
			switch s := line(e); {
			case c.of == nil && strings.HasPrefix(s, c.what) && e.Net.Transport == "tcp":
				got = append(got, fmt.Sprint(e.Net.Destination.Port()))
			case c.of != nil && e.Action == c.what:
				got = append(got, c.of(strings.Fields(s)))
			}
		}
		w.mu.Unlock()
		slices.Sort(want)
		slices.Sort(got)
		if len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("%s:\n%q\ntshark has\n%q", c.what, got, want)
		}
	}
}

// converse has VMs talk, and says how many frames that took.
func converse(t *testing.T, w *world) int {
	before := func() (n uint64) {
		for _, v := range w.vms {
			n += v.port.Stats().Sent
		}
		return n
	}
	start := before()
	c := w.dial("a", 40000, "b", 80)
	c.mss = 11
	c.say(0, "GET /one HTTP/1.1\r\nHost: shop\r\n\r\n")
	c.say(1, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	// Out of order, and twice.
	request := "POST /two HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\n\r\nabc"
	at := c.seq[0]
	for _, part := range [][2]int{{20, 30}, {0, 10}, {0, 20}, {30, len(request)}, {10, 25}} {
		c.seq[0] = at + uint32(part[0])
		c.segment(0, &layers.TCP{ACK: true}, []byte(request[part[0]:part[1]]))
	}
	c.seq[0] = at + uint32(len(request))
	c.mss = 40 // tshark trips over an end of chunks that is in two segments
	c.say(1, "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
	c.close()
	s := w.dial("c", 1000, "b", 443)
	s.mss = 90
	s.say(0, hello(t, &tls.Config{ServerName: "bank.example"}))
	h := w.dial("c", 1001, "a", 22)
	h.say(1, "SSH-2.0-OpenSSH_9.2p1\r\n")
	h.say(0, "SSH-2.0-Go\r\n")
	for _, name := range []string{"a.example.org.", "b.example.org."} {
		w.datagram("a", 5000, "b", 53, dns(t, name, false))
		w.datagram("b", 53, "a", 5000, dns(t, name, true))
	}
	return int(before() - start)
}
