BeforeDiscovery {
    . "$PSScriptRoot/Session.ps1"

    $common = [Management.Automation.Cmdlet]::CommonParameters
    $cmdlets = foreach ($command in (Get-Module UnslothMerge).ExportedCmdlets.Values) {
        @{ cmdlet = $command.Name; parameters = @($command.Parameters.Keys | Where-Object { $_ -notin $common }) }
    }
    $topics = @{ topic = 'about_UnslothMerge' }, @{ topic = 'about_UnslothMerge_Recipes' }
}

BeforeAll {
    . "$PSScriptRoot/Session.ps1"

    function Get-HelpText($Paragraphs) { (@($Paragraphs).Text -join "`n").Trim() }

    # The errors of a script, and what it calls wrongly of this module.
    function Get-Mistake([string] $Script) {
        $tokens = $errors = $null
        $ast = [Management.Automation.Language.Parser]::ParseInput($Script, [ref] $tokens, [ref] $errors)
        $errors.Message
        foreach ($call in $ast.FindAll({ $args[0] -is [Management.Automation.Language.CommandAst] }, $true)) {
            $command = (Get-Module UnslothMerge).ExportedCmdlets[[string] $call.GetCommandName()]
            if (-not $command) { continue }
            foreach ($element in $call.CommandElements) {
                if ($element -is [Management.Automation.Language.CommandParameterAst]) {
                    $name = $element.ParameterName
                    try { $null = $command.ResolveParameter($name) } catch { "$($command.Name) has no parameter -$name" }
                }
            }
        }
    }
}

Describe 'The help of <cmdlet>' -ForEach $cmdlets {
    BeforeAll {
        $help = Get-Help $cmdlet
        $page = "src/UnslothMerge.PowerShell/Help/$cmdlet.md"
    }

    It 'says what it does' {
        $help.Synopsis.Trim() | Should -Match '^[A-Z].*\.$' -Because 'the <summary> of the cmdlet class is its synopsis'
        (Get-HelpText $help.description).Length | Should -BeGreaterThan 100 -Because "$page begins with a description"
        @($help.syntax.syntaxItem)[0].parameter.position | Should -Contain '0' -Because 'what is typed without names comes first'
    }

    It 'says what each parameter does' {
        foreach ($name in $parameters) {
            $parameter = Get-Help $cmdlet -Parameter $name
            (Get-HelpText $parameter.description).Length |
                Should -BeGreaterThan 10 -Because "the <summary> of the property $name is its help"
            $parameter.defaultValue | Should -Not -BeNullOrEmpty -Because "-$name has a default or None"
        }
        @($help.parameters.parameter).Count | Should -Be @($parameters).Count
    }

    It 'says what goes in and out' {
        $in = (Get-Command $cmdlet).Parameters.Values.ParameterSets.Values |
            Where-Object { $_.ValueFromPipeline -or $_.ValueFromPipelineByPropertyName }
        if ($in) { @($help.inputTypes.inputType).Count | Should -BeGreaterThan 0 }
        foreach ($type in $help.returnValues.returnValue) {
            Get-HelpText $type.description | Should -Match '^[A-Z].*\.$' -Because 'the <summary> of the object is its help'
        }
        @($help.returnValues.returnValue.type.name) | Should -Be @((Get-Command $cmdlet).OutputType.Name)
    }

    It 'has at least three examples, which are right' {
        $examples = @($help.examples.example)
        $examples.Count | Should -BeGreaterOrEqual 3 -Because "each cmdlet has three examples at least, in $page"
        foreach ($example in $examples) {
            $example.title | Should -Match 'Example \d+: \w'
            Get-Mistake $example.code | Should -BeNullOrEmpty -Because "the examples of $page are to be typed"
            $example.code | Should -Match $cmdlet
        }
    }

    It 'leads on to what exists' {
        $links = @($help.relatedLinks.navigationLink.linkText)
        $links | Should -Not -BeNullOrEmpty -Because "$page ends with links"
        foreach ($link in $links | Where-Object { $_ -notlike 'http*' }) {
            $module = Get-Module UnslothMerge
            $exists = $link -like 'about_*' ? (Test-Path "$($module.ModuleBase)/en-US/$link.help.txt") :
                $module.ExportedCmdlets.ContainsKey($link)
            $exists | Should -BeTrue -Because "$page links to $link"
        }
    }
}

Describe '<topic>' -ForEach $topics {
    BeforeAll {
        $text = Get-Content "$((Get-Module UnslothMerge).ModuleBase)/en-US/$topic.help.txt" -Raw
    }

    It 'is found' {
        Get-Help $topic | Should -Match "TOPIC\s+$topic"
    }

    It 'fits into 80 columns' {
        $text -split "`r?`n" | Where-Object { $_.Length -gt 80 } | Should -BeNullOrEmpty
    }

    It 'shows commands that are right' {
        # What is indented by eight columns is to be typed.
        $code = ($text -split "`r?`n" | Where-Object { $_ -match '^ {8}[^\s]|^ {9,}' }) -join "`n"
        Get-Mistake $code | Should -BeNullOrEmpty
    }
}

Describe 'Errors' {
    It 'have their ids in about_UnslothMerge' {
        $failure = { Get-ModelTensor /nowhere -ErrorAction Stop } | Should -Throw -PassThru
        $text = Get-Content "$((Get-Module UnslothMerge).ModuleBase)/en-US/about_UnslothMerge.help.txt" -Raw
        foreach ($id in $failure.Exception.Error.GetType().GetEnumNames()) { $text | Should -Match "\b$id\b" }
    }
}

Describe 'The table of save_pretrained_merged' {
    BeforeAll {
        $save = Get-Command Save-MergedModel
        $page = Get-Content (Join-Path $PSScriptRoot .. .. docs from-unsloth.md) -Raw
        $rows = [regex]::Matches($page, '(?m)^\| (?<arguments>`[a-z_]+`(?:, `[a-z_]+`)*) \| (?<here>.*) \|\r?$')
        function Test-Parameter([string] $Name) { $Name -in @($save.Parameters.Keys) + $save.Parameters.Values.Aliases }
    }

    It 'has every argument' {
        $arguments = ($rows | ForEach-Object { $_.Groups['arguments'].Value }) -join ', ' -replace '`' -split ', '
        $expected = 'save_directory', 'tokenizer', 'save_method', 'push_to_hub', 'token', 'is_main_process', 'state_dict', 'save_function',
            'max_shard_size', 'safe_serialization', 'variant', 'save_peft_format', 'tags', 'datasets', 'temporary_location',
            'maximum_memory_usage', 'private', 'revision', 'create_pr', 'commit_message', 'commit_description'
        foreach ($argument in $expected) { $arguments | Should -Contain $argument }
    }

    It 'names parameters that there are, and none accepted in silence' {
        foreach ($row in $rows) {
            $has = $row.Groups['here'].Value.StartsWith('`-')
            foreach ($argument in $row.Groups['arguments'].Value -replace '`' -split ', ') {
                # save_directory is -SaveDirectory in PowerShell's spelling.
                Test-Parameter ($argument -replace '_') | Should -Be $has -Because "the table says so of $argument"
            }
            foreach ($name in [regex]::Matches($row.Groups['here'].Value, '`-(\w+)`')) { Test-Parameter $name.Groups[1].Value |
                Should -BeTrue }
        }
    }
}
