package filter_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"warder/internal/oracle"
	"warder/secmon/lan/filter"
	"warder/secmon/lan/packet"
	"warder/secmon/lan/pcapng"
)

func frame(t testing.TB, parts ...gopacket.SerializableLayer) []byte {
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(b.Bytes())
}

// frames are of all kinds that words are about.
func frames(t testing.TB) (list [][]byte) {
	mac := func(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, n} }
	for _, ends := range [][2]byte{{1, 2}, {2, 1}, {1, 3}, {3, 9}} {
		src, dst := ends[0], ends[1]
		to := mac(dst)
		if dst == 9 {
			to = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		}
		e4 := &layers.Ethernet{SrcMAC: mac(src), DstMAC: to, EthernetType: layers.EthernetTypeIPv4}
		e6 := &layers.Ethernet{SrcMAC: mac(src), DstMAC: to, EthernetType: layers.EthernetTypeIPv6}
		ea := &layers.Ethernet{SrcMAC: mac(src), DstMAC: to, EthernetType: layers.EthernetTypeARP}
		v6 := func(n byte) net.IP { ip := make(net.IP, 16); ip[0], ip[15] = 0xfd, n; return ip }
		ip4 := func(p layers.IPProtocol) *layers.IPv4 {
			return &layers.IPv4{Version: 4, TTL: 64, Protocol: p, SrcIP: net.IP{10, 0, 0, src}, DstIP: net.IP{10, 0, dst, dst}}
		}
		ip6 := func(p layers.IPProtocol) *layers.IPv6 {
			return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: p, SrcIP: v6(src), DstIP: v6(dst)}
		}
		for _, port := range []layers.TCPPort{22, 80, 443, 8005} {
			for _, tcp := range []*layers.TCP{{SYN: true}, {SYN: true, ACK: true}, {ACK: true, PSH: true}, {RST: true}, {FIN: true, ACK: true}} {
				tcp.SrcPort, tcp.DstPort = 40000, port
				if src == 2 {
					tcp.SrcPort, tcp.DstPort = port, 40000
				}
				i4, i6 := ip4(6), ip6(6)
				tcp.SetNetworkLayerForChecksum(i4)
				list = append(list, frame(t, e4, i4, tcp, gopacket.Payload(make([]byte, int(port)%300))))
				tcp.SetNetworkLayerForChecksum(i6)
				list = append(list, frame(t, e6, i6, tcp))
			}
		}
		udp := &layers.UDP{SrcPort: 5000, DstPort: 53}
		i4 := ip4(17)
		udp.SetNetworkLayerForChecksum(i4)
		list = append(list, frame(t, e4, i4, udp, gopacket.Payload("x")))
		list = append(list, frame(t, e4, ip4(1), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 77}))
		i6 := ip6(58)
		icmp6 := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}
		icmp6.SetNetworkLayerForChecksum(i6)
		list = append(list, frame(t, e6, i6, icmp6, gopacket.Payload{0, 1, 0, 2}))
		list = append(list, frame(t, ea, &layers.ARP{
			AddrType: 1, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: 1,
			SourceHwAddress: mac(src), SourceProtAddress: []byte{10, 0, 0, src}, DstHwAddress: mac(0), DstProtAddress: []byte{10, 0, dst, dst},
		}))
		later := ip4(17)
		later.FragOffset = 2
		list = append(list, frame(t, e4, later, gopacket.Payload("\x00\x35\x00\x35 no ports")))
	}
	return list
}

// expressions have the same meaning for tcpdump.
var expressions = []string{
	"", "ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6", "host 10.0.0.1", "src host 10.0.0.1", "dst 10.0.2.2", "src fd00::1", "host fd00::2",
	"net 10.0.0.0/24", "dst net 10.0.2.0/23", "src net fd00::/16", "port 80", "src port 80", "dst port 443", "tcp port 22", "udp port 53", "udp dst port 53", "portrange 8000-8010",
	"tcp portrange 1-100", "port 80 or 443", "port http or https", "host 10.0.0.1 and 10.0.2.2", "not tcp", "! ( tcp or udp )", "!arp", "tcp and not port 22 or arp",
	"arp or tcp and port 22", "src or dst port 22", "src and dst host 10.0.0.1", "ether host 02:00:00:00:00:02", "ether src 02:00:00:00:00:03", "ether dst ff:ff:ff:ff:ff:ff",
	"ether broadcast", "broadcast", "multicast", "less 80", "greater 200", "tcp[tcpflags] & (tcp-syn|tcp-ack) != 0", "tcp[tcpflags] == tcp-syn", "tcp[tcpflags]&tcp-rst!=0 and ip",
	"tcp[13] & 2 != 0", "ip proto 17", "ip6 proto 58", "ip host 10.0.0.1", "ip src 10.0.0.1 and tcp", "not (host 10.0.0.1 && port 80) || udp", "!!tcp",
}

func counts(t *testing.T, list [][]byte, expression string) (n int) {
	f, err := filter.Parse(expression)
	if err != nil {
		t.Fatalf("%v", err)
	}
	var h packet.Headers
	for _, p := range list {
		h.Decode(p, len(p), false)
		if f.Match(filter.Frame{Headers: &h, Len: len(p)}) {
			n++
		}
	}
	return n
}

// TestTcpdumpAgrees has tcpdump pick of the same frames.
func TestTcpdumpAgrees(t *testing.T) {
	tcpdump := oracle.Command(t, "tcpdump", "tcpdump")
	list := frames(t)
	path := filepath.Join(t.TempDir(), "x.pcapng")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := pcapng.NewWriter(file, "warder", "", 65535)
	if err != nil {
		t.Fatal(err)
	}
	n, err := w.Interface(pcapng.Ethernet, "x", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		if err := w.Frame(n, 0, p, len(p), ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	for _, x := range expressions {
		// TCP over IPv6 has flags too, which tcpdump does not look at; IPv6's "broadcast" is none.
		if strings.Contains(x, "tcp[") {
			x = "ip and " + x
		}
		cmd := exec.CommandContext(t.Context(), tcpdump, "-r", path, "-nn", "-t", x)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v, %s", x, err, stderr.Bytes())
			continue
		}
		want := bytes.Count(out, []byte("\n"))
		if got := counts(t, list, x); got != want {
			t.Errorf("%q: %d of %d frames, tcpdump has %d", x, got, len(list), want)
		}
	}
}

func TestOwnWords(t *testing.T) {
	var h packet.Headers
	f := filter.Frame{Headers: &h, VLAN: 7, From: "a", To: "b", Refused: true}
	for x, want := range map[string]bool{
		"vlan": true, "vlan 7": true, "vlan 8": false, "vm a": true, "vm c": false, "src vm a": true, "dst vm a": false, "src vm a and dst vm b": true,
		"refused": true, "not refused": false, "vm a or c": true, "vm c or d": false, "vlan 8 or vm b": true, "vlan and vm a": true,
	} {
		p, err := filter.Parse(x)
		if err != nil {
			t.Errorf("%v", err)
		} else if p.Match(f) != want || p.String() != x {
			t.Errorf("%q: %v", x, !want)
		}
	}
}

func TestRefusals(t *testing.T) {
	for x, want := range map[string]string{
		"tcp port htp":                  "tcp port htp\n         ^ port: give a number of 0 to 65535",
		"host example.org":              "host example.org\n     ^ host: give an address, as 10.0.0.1 or fd00::1; names are not looked up",
		"tcp and":                       "tcp and\n       ^ something is missing here",
		"( tcp":                         "( tcp\n     ^ a bracket is not closed",
		"tcp )":                         "tcp )\n    ^ an expression ends here; and, or are missing, or a bracket is too much",
		"gateway x":                     `gateway x` + "\n" + `^ "gateway" is not known; host, net, port, tcp, udp, ... are (warder lan capture --help has all)`,
		"tcp[0:2] = 80":                 "tcp[0:2] = 80\n    ^ of TCP only tcp[tcpflags] can be asked for",
		"udp[4] = 1":                    "udp[4] = 1\n   ^ bytes of udp cannot be asked for, only tcp[tcpflags]",
		"portrange 90-80":               "portrange 90-80\n          ^ portrange: give the lower port first",
		"vlan 9999":                     "vlan 9999\n     ^ a VLAN is a number of 0 to 4094",
		"ether host 1:2":                "ether host 1:2\n           ^ give a hardware address, as 02:00:00:00:00:01",
		"vm":                            "vm\n  ^ vm: give the name of a VM",
		"tcp src host ::1":              "tcp src host ::1\n             ^ port or portrange has to follow here",
		"host \x01":                     "host \n     ^ only printable ASCII has a meaning here",
		"net 10.0.0.0/33":               "net 10.0.0.0/33\n    ^ net: give a network, as 10.0.0.0/24 or fd00::/64",
		strings.Repeat("(", 100) + "ip": strings.Repeat("(", 100) + "ip\n" + strings.Repeat(" ", 64) + "^ brackets are nested more than 64 deep",
	} {
		if _, err := filter.Parse(x); err == nil || err.Error() != want {
			t.Errorf("got\n%v\nwant\n%s", err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, x := range expressions {
		f.Add(x)
	}
	f.Add("src vm a and ( vlan 7 or refused )")
	list := frames(f)
	f.Fuzz(func(t *testing.T, x string) {
		p, err := filter.Parse(x)
		if (p == nil) == (err == nil) {
			t.Fatalf("%v, %v", p, err)
		}
		if err != nil {
			if !strings.Contains(err.Error(), "^ ") {
				t.Fatal(err)
			}
			return
		}
		n, m := 0, 0
		negated, err := filter.Parse("not ( " + x + " )")
		if err != nil {
			if strings.Trim(x, " ") != "" && len(x) < 4000 && strings.Count(x, "(") < 60 {
				t.Fatalf("negated: %v", err)
			}
			return
		}
		var h packet.Headers
		for _, b := range list {
			h.Decode(b, len(b), false)
			for match, n := range map[*filter.Filter]*int{p: &n, negated: &m} {
				if match.Match(filter.Frame{Headers: &h, Len: len(b)}) {
					*n++
				}
			}
		}
		if n+m != len(list) {
			t.Fatalf("%d frames, and %d of %d not", n, m, len(list))
		}
	})
}
