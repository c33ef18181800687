package decision

import (
	"bytes"
	"io"
	"testing"

	"warder/guestinit/proto"
)

// hostile is a host that sends whatever bytes, and hears nothing.
type hostile struct{ io.Reader }

func (hostile) Write(p []byte) (int, error) { return len(p), nil }
func (hostile) Close() error                { return nil }

// FuzzRequests has a host ask whatever comes to its mind: the module comes back when
// the host has hung up.
func FuzzRequests(f *testing.F) {
	frames := func(messages ...string) []byte {
		var b bytes.Buffer
		for _, m := range messages {
			proto.WriteFrame(&b, []byte(m))
		}
		return b.Bytes()
	}
	open := `{"id":1,"method":"open","body":{"capacity":{"vcpus":4},"metered":true,"file":"p","policies":"permit (principal, action, resource);"}}`
	f.Add(frames(open, `{"id":2,"method":"declare","body":{"service":{"name":"a","command":["x"]}}}`, `{"id":3,"method":"start","body":{"name":"a","request":1}}`, `{"id":4,"method":"list","body":{"after":""}}`))
	f.Add(frames(open, `{"id":2,"method":"declare","body":{"service":{"name":"a","restart":{"policy":"always"}},"record":{"status":{"state":"waiting","starts":3},"until":"2100-01-01T00:00:00Z","stop":{"by":"me"}}}}`, `{"id":3,"method":"wait","body":{"name":"a"}}`))
	f.Add(frames(open, `{"id":2,"method":"grant","body":{"holder":"v","vcpus":9}}`, `{"id":3,"method":"permit","body":{"principal":{"Name":"ann"},"action":"start","name":"a"}}`, `{"id":4,"method":"close"}`))
	f.Add(frames(`{"id":1,"method":"list","body":{}}`, open, open, `{"id":3,"method":"ping"}`))
	f.Add(frames(open, `{"id":2,"method":"add","body":{"service":{"name":"b"},"request":7}}`, `{"id":3,"method":"remove","body":{"name":"b"}}`, `{"id":3,"off":true}`, `{"id":4,"method":"stop","body":{"name":"b","timeout_ns":-1}}`))
	f.Add(frames(open, `{"id":2,"method":"declare","body":{"service":{"name":"c","command":["x"],"on_demand":{"idle":"1ns"}},"record":{"status":{"state":"running","starts":1,"by":"a connection"}},"held":3}}`,
		`{"id":3,"method":"release","body":{"name":"c","number":4}}`, `{"id":4,"method":"demand","body":{"name":"c","number":2,"request":9,"begun":true}}`, `{"id":4,"off":true}`, `{"id":5,"method":"end","body":{"name":"c","start":1,"began":"0001-01-01T00:00:00Z"}}`, `{"id":6,"method":"permit","body":{"inside":"c","action":"stop","name":"c"}}`))
	f.Fuzz(func(t *testing.T, b []byte) { Serve(t.Context(), hostile{bytes.NewReader(b)}) })
}
