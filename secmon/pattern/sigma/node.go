package sigma

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Bounds on a rule file, so that a library cannot exhaust the host.
const (
	maxFile  = 1 << 20
	maxNodes = 1 << 16 // aliases count with all that they stand for
	maxDepth = 64
)

// Kind is what a YAML node is.
type Kind uint8

const (
	NullNode Kind = iota
	BoolNode
	IntNode
	FloatNode
	TextNode
	ListNode
	MapNode
)

func (k Kind) String() string {
	return [...]string{"null", "a boolean", "a number", "a number", "a text", "a list", "a map"}[k]
}

// Node is a value of a rule file with its place. Anchors are resolved.
type Node struct {
	Pos
	Kind Kind
	Text string  // of a scalar, as it is written, without quotes
	List []*Node // of a list; of a map its values
	Keys []*Node // of a map, all of kind TextNode
}

// Get is the value of a map's key, nil if there is none.
func (n *Node) Get(key string) *Node {
	if n == nil || n.Kind != MapNode {
		return nil
	}
	for i, k := range n.Keys {
		if k.Text == key {
			return n.List[i]
		}
	}
	return nil
}

// Value is the node as package encoding/json has values: nil, a bool, a
// [json.Number], a string, a []any or a map[string]any.
func (n *Node) Value() any {
	switch n.Kind {
	case NullNode:
		return nil
	case BoolNode:
		return n.Text == "true"
	case IntNode, FloatNode:
		return json.Number(n.Text)
	case ListNode:
		out := make([]any, len(n.List))
		for i, v := range n.List {
			out[i] = v.Value()
		}
		return out
	case MapNode:
		out := make(map[string]any, len(n.Keys))
		for i, k := range n.Keys {
			out[k.Text] = n.List[i].Value()
		}
		return out
	}
	return n.Text
}

// source is a rule file that is being read.
type source struct {
	name  string
	lines []string
}

func newSource(name string, text []byte) *source {
	return &source{name, strings.Split(string(text), "\n")}
}

// fail makes an error that points at a place.
func (s *source) fail(at Pos, format string, args ...any) error {
	e := &Error{File: s.name, Pos: at, Message: fmt.Sprintf(format, args...)}
	if at.Line >= 1 && at.Line <= len(s.lines) {
		e.Source = strings.TrimSuffix(s.lines[at.Line-1], "\r")
	}
	return e
}

// documents reads the YAML documents of a file that are not empty.
func (s *source) documents(text []byte) (docs []*Node, err error) {
	if len(text) > maxFile {
		return nil, s.fail(Pos{1, 1}, "a rule file of more than %d bytes", maxFile)
	}
	tree, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, s.syntax(err)
	}
	c := &converter{src: s, anchors: make(map[string]*Node)}
	for _, doc := range tree.Docs {
		if doc.Body == nil {
			continue
		}
		clear(c.anchors) // they are of one document
		n, err := c.node(doc.Body, 0)
		if err != nil {
			return nil, err
		}
		if n != nil && n.Kind != NullNode {
			docs = append(docs, n)
		}
	}
	return docs, nil
}

func (s *source) syntax(err error) error {
	at, msg := Pos{1, 1}, err.Error()
	if y, ok := err.(yaml.Error); ok {
		msg = y.GetMessage()
		if tok := y.GetToken(); tok != nil && tok.Position != nil {
			at = Pos{tok.Position.Line, tok.Position.Column}
		}
	}
	return s.fail(at, "%s", msg)
}

// converter makes nodes of a parser's tree, within bounds.
type converter struct {
	src     *source
	anchors map[string]*Node
	nodes   int
}

func position(n ast.Node) Pos {
	if tok := n.GetToken(); tok != nil && tok.Position != nil {
		return Pos{tok.Position.Line, tok.Position.Column}
	}
	return Pos{1, 1}
}

func (c *converter) count(n int, at Pos, depth int) error {
	if c.nodes += n; c.nodes > maxNodes {
		return c.src.fail(at, "more than %d values in one file", maxNodes)
	}
	if depth > maxDepth {
		return c.src.fail(at, "nested deeper than %d", maxDepth)
	}
	return nil
}

func (c *converter) node(n ast.Node, depth int) (*Node, error) {
	out := &Node{Pos: position(n)}
	if err := c.count(1, out.Pos, depth); err != nil {
		return nil, err
	}
	switch n := n.(type) {
	case *ast.NullNode:
	case *ast.BoolNode:
		out.Kind, out.Text = BoolNode, n.GetToken().Value
	case *ast.IntegerNode:
		out.Kind, out.Text = IntNode, n.GetToken().Value
	case *ast.FloatNode:
		out.Kind, out.Text = FloatNode, n.GetToken().Value
	case *ast.InfinityNode, *ast.NanNode:
		out.Kind, out.Text = TextNode, n.GetToken().Value
	case *ast.StringNode:
		out.Kind, out.Text = TextNode, n.Value
	case *ast.LiteralNode:
		out.Kind, out.Text = TextNode, n.Value.Value
	case *ast.SequenceNode:
		out.Kind = ListNode
		for _, v := range n.Values {
			item, err := c.node(v, depth+1)
			if err != nil {
				return nil, err
			}
			out.List = append(out.List, item)
		}
	case *ast.MappingNode:
		return out, c.mapping(out, n.Values, depth)
	case *ast.MappingValueNode:
		return out, c.mapping(out, []*ast.MappingValueNode{n}, depth)
	case *ast.TagNode:
		return c.tagged(n, depth)
	case *ast.AnchorNode:
		v, err := c.node(n.Value, depth+1)
		if err == nil {
			c.anchors[n.Name.GetToken().Value] = v
		}
		return v, err
	case *ast.AliasNode:
		v := c.anchors[n.Value.GetToken().Value]
		if v == nil {
			return nil, c.src.fail(out.Pos, "the anchor %q is not defined above", n.Value.GetToken().Value)
		}
		return v, c.count(v.size(), out.Pos, depth)
	case *ast.CommentGroupNode, *ast.CommentNode:
		return nil, nil
	default:
		return nil, c.src.fail(out.Pos, "a rule does not hold a %s", n.Type())
	}
	return out, nil
}

// tagged reads a value with an explicit type; a rule needs none but these.
func (c *converter) tagged(n *ast.TagNode, depth int) (*Node, error) {
	v, err := c.node(n.Value, depth+1)
	if err != nil {
		return nil, err
	}
	switch tag := n.Start.Value; tag {
	case "!!str":
		v.Kind = TextNode
	case "!!int", "!!float", "!!bool", "!!null", "!!seq", "!!map":
	default:
		return nil, c.src.fail(position(n), "the type %s is not known", tag)
	}
	return v, nil
}

func (c *converter) mapping(out *Node, values []*ast.MappingValueNode, depth int) error {
	out.Kind = MapNode
	seen := make(map[string]bool, len(values))
	if len(values) > 0 {
		out.Pos = position(values[0].Key)
	}
	var merged []*Node // maps whose keys are here too, unless they are anyway
	for _, v := range values {
		if _, ok := v.Key.(*ast.MergeKeyNode); ok {
			maps, err := c.merged(v, depth)
			if err != nil {
				return err
			}
			merged = append(merged, maps...)
			continue
		}
		key, err := c.node(v.Key, depth+1)
		if err != nil {
			return err
		}
		if key == nil || key.Kind >= ListNode {
			return c.src.fail(position(v.Key), "a key is a text")
		}
		key.Kind = TextNode
		if seen[key.Text] {
			return c.src.fail(key.Pos, "the key %q is there twice", key.Text)
		}
		seen[key.Text] = true
		value, err := c.node(v.Value, depth+1)
		if err != nil {
			return err
		}
		if value.Kind == NullNode {
			value.Pos = key.Pos // an absent value has no place of its own
		}
		out.Keys = append(out.Keys, key)
		out.List = append(out.List, value)
	}
	for _, m := range merged {
		for i, key := range m.Keys {
			if !seen[key.Text] {
				seen[key.Text] = true
				out.Keys = append(out.Keys, key)
				out.List = append(out.List, m.List[i])
			}
		}
	}
	return nil
}

// merged are the maps that a key << names: one, or several of which the earlier
// count.
func (c *converter) merged(v *ast.MappingValueNode, depth int) ([]*Node, error) {
	n, err := c.node(v.Value, depth+1)
	if err != nil {
		return nil, err
	}
	maps := []*Node{n}
	if n != nil && n.Kind == ListNode {
		maps = n.List
	}
	for _, m := range maps {
		if m == nil || m.Kind != MapNode {
			return nil, c.src.fail(position(v.Key), "what is merged into a map is a map, or a list of maps")
		}
	}
	return maps, nil
}

// size is how many values a node stands for.
func (n *Node) size() int {
	total := 1
	for _, v := range n.List {
		total += v.size()
	}
	return total + len(n.Keys)
}

// digest is the same for nodes that say the same, wherever they stand.
func (n *Node) digest() [sha256.Size]byte {
	h := sha256.New()
	n.write(h)
	return [sha256.Size]byte(h.Sum(nil))
}

func (n *Node) write(w io.Writer) {
	fmt.Fprintf(w, "%d %q %d\n", n.Kind, n.Text, len(n.List))
	for i, v := range n.List {
		if n.Kind == MapNode {
			n.Keys[i].write(w)
		}
		v.write(w)
	}
}
