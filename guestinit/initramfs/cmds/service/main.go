// Command service asks the host for services, in the name of the service whose VM
// it is run in. The host permits what its policies say, and always that a service looks
// at itself and ends itself.
//
//	service ls
//	service show|start|stop|wait NAME
//
// NAME is self for the service itself.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/mdlayher/vsock"
)

// port is proto.ServicesPort: what goes into the one binary of commands imports nothing
// of this module.
const port = 1026

const usage = `usage: service ls
       service show|start|stop|wait NAME    (self: the service of this VM)`

func main() {
	err := run(os.Args[1:], os.Stdout)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "service:", err)
	if errors.Is(err, errUsage) {
		os.Exit(2)
	}
	os.Exit(1)
}

var errUsage = errors.New(usage)

// status is what the host tells of a service, as far as it is shown.
type status struct {
	Name  string `json:"name"`
	State string `json:"state"`
	Why   string `json:"why"`
}

func run(args []string, out io.Writer) error {
	method, path, err := request(args)
	if err != nil {
		return err
	}
	c, err := vsock.Dial(vsock.Host, port, nil)
	if err != nil {
		return fmt.Errorf("the host does not answer; is this the VM of one of its services? %w", err)
	}
	defer c.Close()
	body, err := ask(c, method, path)
	if err != nil {
		return err
	}
	var list []status
	if args[0] == "ls" {
		err = json.Unmarshal(body, &list)
	} else {
		list = make([]status, 1)
		err = json.Unmarshal(body, &list[0])
	}
	if err != nil {
		return fmt.Errorf("the host's answer: %w", err)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, s := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, s.State, s.Why)
	}
	return w.Flush()
}

// request is what a command line asks for.
func request(args []string) (method, path string, err error) {
	switch {
	case len(args) == 1 && args[0] == "ls":
		return "GET", "/v1/services", nil
	case len(args) != 2 || args[1] == "" || strings.ContainsAny(args[1], "/?%# \r\n"):
		return "", "", errUsage
	}
	path = "/v1/services/" + args[1]
	switch args[0] {
	case "show":
		return "GET", path, nil
	case "wait":
		return "GET", path + "/wait", nil
	case "start", "stop":
		return "POST", path + "/" + args[0], nil
	}
	return "", "", errUsage
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 8 << 20

// ask makes a request of HTTP/1.0, after whose answer the host hangs up. An answer that
// is an error comes back as one.
func ask(c io.ReadWriter, method, path string) ([]byte, error) {
	if _, err := fmt.Fprintf(c, "%s %s HTTP/1.0\r\n\r\n", method, path); err != nil {
		return nil, err
	}
	r := bufio.NewReader(io.LimitReader(c, maxAnswer))
	head, err := r.ReadString('\n')
	for line := head; err == nil && strings.TrimSpace(line) != ""; {
		line, err = r.ReadString('\n')
	}
	if err != nil {
		return nil, fmt.Errorf("the host hung up: %w", err)
	}
	body, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	_, code, _ := strings.Cut(strings.TrimSpace(head), " ")
	if strings.HasPrefix(code, "200") {
		return body, nil
	}
	var failed struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &failed) != nil || failed.Message == "" {
		return nil, fmt.Errorf("the host answers %s", code)
	}
	return nil, errors.New(failed.Message)
}
