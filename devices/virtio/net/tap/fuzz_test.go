package tap

import (
	"bytes"
	"testing"

	"warder/devices/virtio/net"
)

// FuzzParse reads frames as they come from the kernel, which may be another machine's.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		var fr net.Frame
		if parse(&fr, b) != nil {
			return
		}
		all := bytes.Clone(fr.Head)
		for _, p := range fr.Body {
			all = append(all, p...)
		}
		if !bytes.Equal(all, b[net.HeaderSize:]) || fr.Len != len(all) {
			t.Fatalf("%d bytes became %d, said to be %d", len(b)-net.HeaderSize, len(all), fr.Len)
		}
		if fr.NeedsCsum && int(fr.CsumStart)+int(fr.CsumOffset)+2 > len(fr.Head) {
			t.Fatalf("checksum outside the head: %+v", fr.Offload)
		}
		if fr.GSO != net.NoGSO && (fr.GSOSize == 0 || int(fr.HdrLen) > len(fr.Head) || fr.Len <= int(fr.HdrLen)) {
			t.Fatalf("not to be cut: %+v", fr.Offload)
		}
	})
}
