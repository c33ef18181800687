package network

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	vnet "warder/devices/virtio/net"
	"warder/secmon/lan"
	"warder/secmon/lan/packet"
)

// sight is all that an interface of a guest's gets, which has its device pass what is for others
// too, with the tags that its kernel takes off.
type sight struct{ fd int }

func cardOf(mac string) (*net.Interface, error) {
	all, err := net.Interfaces()
	for _, c := range all {
		if c.HardwareAddr.String() == mac {
			return &c, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("no interface %s in %v", mac, all), err)
}

func watchCard(mac string) (*sight, error) {
	card, err := cardOf(mac)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	all := uint16(unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00)
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 60}),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1), unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: card.Index}),
		unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: int32(card.Index), Type: unix.PACKET_MR_PROMISC}))
	return &sight{fd}, err
}

// save writes what is seen to a file, each frame after its length, until so many have ended
// with the text.
func (s *sight) save(path string, count int, text string) error {
	defer unix.Close(s.fd)
	var out []byte
	buf, oob := make([]byte, 1<<17), make([]byte, 1000)
	for count > 0 {
		n, m, _, from, err := unix.Recvmsg(s.fd, buf, oob, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("without its end: %w", err)
		}
		if a, ok := from.(*unix.SockaddrLinklayer); !ok || a.Pkttype == unix.PACKET_OUTGOING || n < 14 {
			continue
		}
		frame := buf[:n]
		if vlan, ok := tagIn(oob[:m]); ok {
			frame = binary.BigEndian.AppendUint16(append(slices.Clone(buf[:12]), 0x81, 0), vlan)
			frame = append(frame, buf[12:n]...)
		}
		out = append(binary.LittleEndian.AppendUint32(out, uint32(len(frame))), frame...)
		if bytes.HasSuffix(frame, []byte(text)) {
			count--
		}
	}
	return os.WriteFile(path, out, 0o644)
}

// tagIn is the tag that a kernel took off a frame (struct tpacket_auxdata).
func tagIn(oob []byte) (vlan uint16, ok bool) {
	all, _ := unix.ParseSocketControlMessage(oob)
	for _, m := range all {
		if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= 20 {
			return binary.NativeEndian.Uint16(m.Data[16:]), binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_VLAN_VALID != 0
		}
	}
	return 0, false
}

// sendFrame sends a datagram from port 7 to port 7 as a frame, with a tag unless vlan is 0.
func sendFrame(self, to station, vlan uint16, text string) error {
	card, err := cardOf(self.mac.String())
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	b := append(append([]byte{}, to.mac[:]...), self.mac[:]...)
	if vlan != 0 {
		b = binary.BigEndian.AppendUint16(append(b, 0x81, 0), vlan)
	}
	b = append(b, 8, 0)
	at := len(b)
	b = append(b, 0x45, 0, 0, byte(28+len(text)), 0, 0, 0, 0, 64, packet.UDP, 0, 0)
	b = append(append(b, self.addr.AsSlice()...), to.addr.AsSlice()...)
	binary.BigEndian.PutUint16(b[at+10:], packet.Checksum(b[at:]))
	b = append(b, 0, 7, 0, 7, 0, byte(8+len(text)), 0, 0)
	return unix.Sendto(fd, append(b, text...), 0, &unix.SockaddrLinklayer{Ifindex: card.Index, Halen: 6})
}

// framesIn are those that a guest has saved.
func framesIn(t *testing.T, path string) (list [][]byte) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for len(raw) >= 4 {
		n := min(int(binary.LittleEndian.Uint32(raw)), len(raw)-4)
		list, raw = append(list, raw[4:4+n]), raw[4+n:]
	}
	return list
}

// do has a machine do something, and holds what it answers against what it should.
func (m *machine) do(want, format string, args ...any) {
	m.t.Helper()
	if got := m.ask(format, args...); got != want {
		m.t.Fatalf("%s: "+format+": %q, want %q", append(append([]any{m.name}, args...), got, want)...)
	}
}

// ports are the ports of TestVMs that are more than one service's in one VLAN: "watcher" gets
// copies of all of web's and db's, and is other's second interface, "trunk" is in both VLANs, and db's.
type ports struct {
	n              *Network
	e              *ear
	common         string
	web, db, other *machine
}

// mirrored has web speak with db and with the gateway, and holds what the watcher got of it
// against what the monitor captured: the same frames of each sender, with the VLAN's tag.
func (p *ports) mirrored(t *testing.T, port int) {
	t.Helper()
	lost := p.n.Port("watcher").Stats().Lost[lan.Full]
	p.other.do("watching", "watch %v", p.n.Port("watcher").Config().MAC)
	c := captureAll(t, p.e.mon)
	exchange := func(text string) {
		t.Helper()
		p.web.do(text, "datagram 10.1.0.3:%d %s", port, text)
	}
	exchange(firstMark)
	for i := range 10 {
		exchange(fmt.Sprintf("mirrored-%d", i))
		p.web.ask("resolve db")
	}
	exchange(lastMark)
	p.other.do("saved", "seen /mnt/other/mirrored 2 %s", lastMark)
	c.stop(t)
	copies := make(map[vnet.MAC][][]byte) // of each sender, without the tag
	for _, f := range framesIn(t, filepath.Join(p.common, "mirrored")) {
		if len(f) < 18 || !bytes.Equal(f[12:16], []byte{0x81, 0, 0, 1}) {
			t.Errorf("a copy without the tag of its VLAN: %x", f[:min(len(f), 18)])
			continue
		}
		from := vnet.MAC(f[6:12])
		copies[from] = append(copies[from], append(slices.Clone(f[:12]), f[16:]...))
	}
	for _, m := range []*machine{p.web, p.db} {
		sent, got := marked(c.frames[m.name]), marked(copies[p.n.Port(m.name).Config().MAC])
		if len(sent) < 12 || !slices.EqualFunc(sent, got, bytes.Equal) {
			t.Errorf("%s sent %d frames, the mirror port got %d, or others", m.name, len(sent), len(got))
		}
		t.Logf("%s: %d frames mirrored", m.name, len(got))
	}
	if now := p.n.Port("watcher").Stats().Lost[lan.Full]; now != lost {
		t.Errorf("the mirror port had no room for %d frames", now-lost)
	}
}

// diverted diverts a flow between two of its frames: the next one is the watcher's, and
// what comes when it is put back is db's again.
func (p *ports) diverted(t *testing.T, port int) {
	t.Helper()
	from := p.web.ask("converse 10.1.0.3:%d", port)
	p.web.do("before", "say before")
	divert := func(to string) {
		t.Helper()
		for _, f := range p.e.mon.Flows() {
			if f.Transport != "udp" || f.SourceVM != "web" || f.DestinationVM != "db" || fmt.Sprint(f.Source.Port()) != from {
				continue
			}
			for _, id := range p.e.mon.AtSwitch(f.ID) {
				if found, err := p.n.DivertFlow(id, to); err != nil || !found {
					t.Fatalf("divert flow %d to %q: %v, %v", f.ID, to, found, err)
				}
				return
			}
		}
		t.Fatalf("no flow from web's port %s to db", from)
	}
	p.other.do("watching", "watch %v", p.n.Port("watcher").Config().MAC)
	divert("watcher")
	p.web.do("told", "tell astray")
	p.other.do("saved", "seen /mnt/other/diverted 1 astray")
	divert("")
	p.web.do("after", "say after")
	for heard := ""; heard != "before"; {
		heard = p.db.ask("hears")
	}
	p.db.do("after", "hears")
	if n := p.n.Port("web").Stats().Lost[lan.Diverted]; n != 1 {
		t.Errorf("%d frames of web's were diverted, want 1", n)
	}
}

// trunked has the trunk send frames of two VLANs, and be sent such.
func (p *ports) trunked(t *testing.T) {
	t.Helper()
	at := func(name string, n int) station {
		c := p.n.Port(name).Config()
		return station{c.MAC, c.Addresses[n]}
	}
	front, back := at("trunk", 0), at("trunk", slices.IndexFunc(p.n.Port("trunk").Config().Addresses, func(a netip.Addr) bool { return netip.MustParsePrefix("10.2.0.0/24").Contains(a) }))
	web, other := at("web", slices.IndexFunc(p.n.Port("web").Config().Addresses, netip.Addr.Is4)), at("other", 0)
	p.db.do("watching", "watch %v", front.mac)
	for _, m := range []*machine{p.web, p.other} {
		m.do("echoing", "echo :7")
	}
	frame := func(m *machine, from, to station, vlan int, text string) {
		t.Helper()
		m.do("sent", "frame %v %v %v %v %d %s", from.mac, from.addr, to.mac, to.addr, vlan, text)
	}
	frame(p.db, front, web, 1, "by-front")
	frame(p.db, front, other, 1, "by-the-wrong-one")
	frame(p.db, back, other, 2, "by-back")
	p.web.do("by-front", "hears")
	p.other.do("by-back", "hears")
	frame(p.web, web, front, 0, "answer")
	frame(p.other, other, back, 0, "answer")
	p.db.do("saved", "seen /mnt/db/trunked 2 answer")
	tags := make(map[station]uint16)
	for _, f := range framesIn(t, filepath.Join(p.common, "trunked")) {
		if bytes.HasSuffix(f, []byte("answer")) {
			if binary.BigEndian.Uint16(f[12:]) != packet.TypeVLAN {
				t.Errorf("the trunk gets a frame without a tag: %x", f)
				continue
			}
			a, _ := netip.AddrFromSlice(f[30:34]) // of IPv4's header
			tags[station{vnet.MAC(f[6:12]), a}] = binary.BigEndian.Uint16(f[14:])
		}
	}
	if len(tags) != 2 || tags[web] != 1 || tags[other] != 2 {
		t.Errorf("the trunk gets frames with the tags %v, want 1 of %v and 2 of %v", tags, web, other)
	}
}
