namespace UnslothMerge.Formats.Quantized;

/// <summary>The words of GPTQ and AWQ. Rows of the weight are columns of the file, so the words are gathered in memory and written at the
/// end as one piece.</summary>
internal sealed class PanelLayout(PanelWeight weight) : CodeLayout
{
    /// <summary>Words that hold several outputs are filled by one worker.</summary>
    public override int RowQuantum => 32;

    public override bool IsTransposed => true;

    public override long ResidentBytes => weight.Codes.Length;

    public override CodeWriter Open(MatrixView view, IOutput output) => new Writer(weight, view, output);

    private sealed class Writer : CodeWriter
    {
        private readonly PanelWeight _weight;
        private readonly MatrixView _view;
        private readonly IOutput _output;
        private readonly NativeBuffer _words;

        public Writer(PanelWeight weight, MatrixView view, IOutput output)
        {
            (_weight, _view, _output) = (weight, view, output);
            _words = new NativeBuffer(weight.Codes.Length);
            _words.Bytes.Clear();
        }

        public override void Write(long row, int rows, ReadOnlySpan<byte> codes)
        {
            var words = MemoryMarshal.Cast<byte, uint>(_words.Bytes);
            var wordsPerRow = (int)_weight.Codes.Shape[1];
            for (var input = 0; input < _view.Columns; input++)
            {
                for (var r = 0; r < rows; r++)
                {
                    var output = (int)row + r;
                    var (word, shift) = _weight.PackedAlongInputs
                        ? ((input * _weight.Bits / 32 * wordsPerRow) + output, input * _weight.Bits % 32)
                        : ((input * wordsPerRow) + (_weight.BitOf(output) / 32), _weight.BitOf(output) % 32);
                    uint code = codes[(r * _view.Columns) + input];
                    words[word] |= code << shift;
                    if (shift + _weight.Bits > 32)
                    {
                        words[word + (_weight.PackedAlongInputs ? wordsPerRow : 1)] |= code >> (32 - shift);
                    }
                }
            }
        }

        public override void Finish() => _output.Write(0, 0, _words.Bytes);

        public override void Dispose() => _words.Dispose();
    }
}
