package network

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"

	vnet "warder/devices/virtio/net"
)

// This program is also what the guests run: with guestMode as its only argument it
// does what its standard input says, line by line, and answers each with a line.
const guestMode = "in-the-guest"

func TestMain(m *testing.M) {
	if len(os.Args) != 2 || os.Args[1] != guestMode {
		os.Exit(m.Run())
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		words := strings.Fields(in.Text())
		said, err := inGuest(words[0], words[1:])
		if err != nil {
			said = "failed: " + err.Error()
		}
		fmt.Println(said)
	}
}

// rpcPort is where the host takes requests by vsock.
const rpcPort = 4000

// bulk is what a server in a guest sends: enough for segments of 64 KiB.
const bulk = 1 << 20

func bulkSum() string {
	h := sha256.New()
	_, _ = io.Copy(h, io.LimitReader(filler{}, bulk))
	return fmt.Sprintf("%x", h.Sum(nil))
}

// filler is bytes that are not all the same.
type filler struct{}

func (filler) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i * 7)
	}
	return len(p), nil
}

// What a guest has begun: a recorder, what it sees of an interface, a conversation by UDP,
// and what its echo has heard.
var (
	recording *recorder
	watching  *sight
	peer      net.Conn
	heard     = make(chan string, 1000)
)

func inGuest(what string, args []string) (string, error) {
	switch what {
	case "serve":
		l, err := net.Listen("tcp", args[0])
		if err != nil {
			return "", err
		}
		go sendBulk(l)
		return "serving", nil
	case "own": // the address that it comes to have in a network
		network := netip.MustParsePrefix(args[0])
		for {
			addrs, err := net.InterfaceAddrs()
			if err != nil {
				return "", err
			}
			for _, a := range addrs {
				if p, err := netip.ParsePrefix(a.String()); err == nil && network.Contains(p.Addr()) {
					return p.Addr().String(), nil
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
	case "serve-http":
		l, err := net.Listen("tcp", args[0])
		if err != nil {
			return "", err
		}
		go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) }))
		return "serving", nil
	case "browse":
		r, err := http.Get(args[0])
		if err != nil {
			return "", err
		}
		defer r.Body.Close()
		_, err = io.Copy(io.Discard, r.Body)
		return fmt.Sprint(r.StatusCode), err
	case "dial": // within so long
		within, err := time.ParseDuration(args[1])
		if err != nil {
			return "", err
		}
		h := sha256.New()
		err = copyFrom(args[0], within, h)
		return fmt.Sprintf("%x", h.Sum(nil)), err
	case "draw": // again and again
		drawn = &tally{since: time.Now()}
		repeat(func() { drawn.add(copyFrom(args[0], 10*time.Minute, drawn)) })
		return "drawing", nil
	case "drawn": // so far: bytes, and nanoseconds by its own clock
		return drawn.state()
	case "stop": // what it does again and again
		repeats.over.Store(true)
		repeats.Wait()
		return "stopped", nil
	case "compute": // again and again
		repeat(func() { _, _ = io.Copy(io.Discard, io.LimitReader(filler{}, bulk)) })
		return "computing", nil
	case "resolve":
		addrs, err := net.LookupHost(args[0])
		return fmt.Sprint(addrs), err
	case "echo": // datagrams
		c, err := net.ListenPacket("udp", args[0])
		if err != nil {
			return "", err
		}
		go func() {
			p := make([]byte, 100)
			for {
				n, from, err := c.ReadFrom(p)
				if err != nil {
					return
				}
				heard <- string(p[:n])
				_, _ = c.WriteTo(p[:n], from)
			}
		}()
		return "echoing", nil
	case "datagram": // and what comes back
		c, err := net.ListenPacket("udp", ":0")
		if err != nil {
			return "", err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return "", err
		}
		to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(args[0]))
		if _, err := c.WriteTo([]byte(strings.Join(args[1:], " ")), to); err != nil {
			return "", err
		}
		p := make([]byte, 100)
		n, _, err := c.ReadFrom(p)
		return string(p[:n]), err
	case "hears": // what its echo is told next
		select {
		case text := <-heard:
			return text, nil
		case <-time.After(time.Minute):
			return "", errors.New("nothing")
		}
	case "converse": // and from which port
		var err error
		if peer, err = net.Dial("udp", args[0]); err != nil {
			return "", err
		}
		_, port, err := net.SplitHostPort(peer.LocalAddr().String())
		return port, err
	case "say", "tell": // and what comes back
		if _, err := io.WriteString(peer, args[0]); err != nil || what == "tell" {
			return "told", err
		}
		if err := peer.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return "", err
		}
		p := make([]byte, 100)
		n, err := peer.Read(p)
		return string(p[:n]), err
	case "watch":
		var err error
		watching, err = watchCard(args[0])
		return "watching", err
	case "seen":
		count, err := strconv.Atoi(args[1])
		if err != nil {
			return "", err
		}
		return "saved", watching.save(args[0], count, strings.Join(args[2:], " "))
	case "frame":
		var macs [2]net.HardwareAddr
		for i := range macs {
			var err error
			if macs[i], err = net.ParseMAC(args[2*i]); err != nil {
				return "", err
			}
		}
		vlan, err := strconv.Atoi(args[4])
		if err != nil {
			return "", err
		}
		self, to := station{vnet.MAC(macs[0]), netip.MustParseAddr(args[1])}, station{vnet.MAC(macs[1]), netip.MustParseAddr(args[3])}
		return "sent", sendFrame(self, to, uint16(vlan), args[5])
	case "record":
		var err error
		recording, err = record()
		return "recording", err
	case "recorded":
		return "saved", recording.save(args[0])
	case "mark": // with one datagram
		c, err := net.Dial("udp", args[0])
		if err != nil {
			return "", err
		}
		defer c.Close()
		_, err = io.WriteString(c, strings.Join(args[1:], " "))
		return "marked", err
	case "put": // a file, with the text
		return "put", os.WriteFile(args[0], []byte(strings.Join(args[1:], " ")), 0o644)
	case "map": // writes behind a place in a file through a mapping
		return "mapped", mapped(args[0], args[1], strings.Join(args[2:], " "))
	case "get":
		p, err := os.ReadFile(args[0])
		return string(p), err
	case "rpc": // by vsock
		c, err := vsock.Dial(vsock.Host, rpcPort, nil)
		if err != nil {
			return "", err
		}
		defer c.Close()
		r, err := http.NewRequest(http.MethodPost, "http://host/rpc/"+args[0], strings.NewReader("x"))
		if err == nil {
			err = r.Write(c)
		}
		if err != nil {
			return "", err
		}
		answer, err := http.ReadResponse(bufio.NewReader(c), r)
		if err != nil {
			return "", err
		}
		return answer.Status, nil
	case "attack", "flood":
		mac, err := net.ParseMAC(args[0])
		if err != nil {
			return "", err
		}
		victim := station{vnet.MAC(mac), netip.MustParseAddr(args[1])}
		if what == "flood" {
			return "flooding", flood(victim)
		}
		return "tried", attackFrom(victim)
	}
	return "", fmt.Errorf("cannot %s", what)
}

// mapped writes to a file through a mapping: no system call says what.
func mapped(path, place, text string) error {
	at, err := strconv.Atoi(place)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(int64(at + len(text))); err != nil {
		return err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, at+len(text), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(m[at:], text)
	return errors.Join(unix.Msync(m, unix.MS_SYNC), unix.Munmap(m))
}

// sendBulk sends whoever connects the bulk.
func sendBulk(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() { _, _ = io.CopyN(c, filler{}, bulk); c.Close() }()
	}
}
