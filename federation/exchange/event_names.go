package exchange

import "bytes"

// plainNames reports that checkNames finds no fault in a line that is valid JSON.
// It is for the lines that exporters write, ASCII without escapes, and costs a
// tenth; of others it says no, whatever they hold.
func plainNames(line []byte) bool {
	for _, c := range line {
		if c == '\\' || c >= 0x80 {
			return false
		}
	}
	line = bytes.TrimLeft(line, " \t\r")
	if len(line) == 0 || line[0] != '{' {
		return false
	}
	var room [maxNames][]byte
	names := room[:0]
	// first is where the names of each open object begin; -1 is an array.
	var first [maxDepth]int
	depth := 0
	named := false // the next text is a name
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case '{', '[':
			if depth == maxDepth {
				return false
			}
			if named = line[i] == '{'; named {
				first[depth] = len(names)
			} else {
				first[depth] = -1
			}
			depth++
		case '}', ']':
			depth--
			if from := first[depth]; from >= 0 {
				names = names[:from]
			}
		case ',':
			named = first[depth-1] >= 0
		case '"':
			end := bytes.IndexByte(line[i+1:], '"')
			text := line[i+1 : i+1+end]
			i += 1 + end
			if !named {
				continue
			}
			named = false
			for _, other := range names[first[depth-1]:] {
				if bytes.EqualFold(other, text) {
					return false
				}
			}
			if len(names) == cap(names) {
				return false
			}
			names = append(names, text)
		}
	}
	return true
}
