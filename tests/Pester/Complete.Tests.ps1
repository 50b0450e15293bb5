BeforeAll {
    . "$PSScriptRoot/Session.ps1"

    # Makes the folder too, if need be.
    function Write-Text([string] $Path, [string] $Text) { $null = New-Item $Path -Value $Text -Force }

    function Read-Text([string] $Path) { Get-Content $Path -Raw }

    # A vocabulary of words, with an end of text.
    function Write-Tokenizer([string] $Folder, [string[]] $Token, [string] $Eos) {
        $words = for ($i = 0; $i -lt $Token.Count; $i++) { '"{0}": {1}' -f $Token[$i], $i }
        $vocabulary = $words -join ', '
        Write-Text "$Folder/tokenizer.json" "{`"added_tokens`": [], `"model`": {`"type`": `"WordLevel`", `"vocab`": {$vocabulary}}}"
        Write-Text "$Folder/tokenizer_config.json" "{`"eos_token`": `"$Eos`"}"
    }

    $base = Copy-Folder (Get-Base 'llama-bf16') 'base'
    $adapter = Copy-Folder (Get-Adapter 'lora-all-linear') 'adapter'
    Write-Tokenizer $base '<pad>', '<s>', '</s>', 'word' '</s>'
    Write-Text "$base/chat_template.jinja" 'of the base'
    Write-Text "$base/preprocessor_config.json" '{}'
    Write-Text "$base/modeling_tiny.py" '# code'
    Write-Text "$base/LICENSE" 'Do what you like.'
    Write-Text "$base/modules.json" '[{"path": ""}, {"path": "1_Pooling"}]'
    Write-Text "$base/1_Pooling/config.json" '{}'
    Write-Text "$base/README.md" "---`nlicense: llama3.2 # Meta's`nlanguage: [en]`n---`n# Base`n"
    $stale = 'pytorch_model.bin', 'model.gguf', 'params.json', 'training_args.bin', 'original/consolidated.00.pth',
        'checkpoint-5/optimizer.pt'
    foreach ($name in $stale) { Write-Text "$base/$name" 'old' }
    $own = Copy-Folder $adapter 'own'
    Write-Tokenizer $own '<pad>', '<s>', '</s>', 'word', '<|end|>' '<|end|>'
    Write-Text "$own/chat_template.jinja" 'of the adapter'
}

Describe 'A saved model' {
    It 'has all that belongs to it, and nothing else' {
        $out = Join-Path $TestDrive 'whole'
        $null = Merge-LoraModel $base $adapter | Save-MergedModel $out -WarningVariable warnings 3> $null
        "$warnings" | Should -BeLike '*code of its own*modeling_tiny.py*'
        $names = '1_Pooling', 'chat_template.jinja', 'config.json', 'generation_config.json', 'LICENSE', 'merge.json',
            'model.safetensors', 'modeling_tiny.py', 'modules.json', 'preprocessor_config.json', 'README.md',
            'tokenizer.json', 'tokenizer_config.json'
        (Get-ChildItem $out -Force).Name | Sort-Object | Should -Be ($names | Sort-Object)
        (Get-ChildItem $out/1_Pooling).Name | Should -Be 'config.json'
    }

    It 'has the tokenizer that the adapter was trained with, and ends where that does' {
        $out = Join-Path $TestDrive 'own-out'
        $null = Merge-LoraModel $base $own | Save-MergedModel $out -WarningVariable warnings 3> $null
        Read-Text "$out/tokenizer.json" | Should -Be (Read-Text "$own/tokenizer.json")
        Read-Text "$out/chat_template.jinja" | Should -Be 'of the adapter'
        (Read-Json "$out/generation_config.json").eos_token_id | Should -Be 4, 2
        @($warnings).Count | Should -Be 3
        "$($warnings[1])" | Should -BeLike "generation_config.json now says eos_token_id 4, 2 instead of 2: the tokenizer of*"
    }

    It 'has the tokenizer that the user wants' {
        $out = Join-Path $TestDrive 'given-out'
        $null = Merge-LoraModel $base $own | Save-MergedModel $out -Tokenizer $base
        Read-Text "$out/chat_template.jinja" | Should -Be 'of the base'
        Read-Text "$out/generation_config.json" | Should -Be (Read-Text "$base/generation_config.json")
    }

    It 'is not written with a tokenizer that is none: <why>' -ForEach @(
        @{ path = 'nothing'; why = 'does not exist'; id = 'PathNotFound' }
        @{ path = 'adapter'; why = 'neither a vocabulary'; id = 'InvalidOption' }
    ) {
        $out = Join-Path $TestDrive 'no-tokenizer'
        $failure = { Merge-LoraModel $base $adapter | Save-MergedModel $out -Tokenizer (Join-Path $TestDrive $path) } |
            Should -Throw "*$why*" -ErrorId "$id,UnslothMerge.PowerShell.Commands.SaveMergedModelCommand" -PassThru
        $failure.TargetObject | Should -Be 'Tokenizer'
        $out | Should -Not -Exist
    }

    It 'warns of tokens that have no row, before it is written' {
        $wide = Copy-Folder $adapter 'wide'
        Write-Tokenizer $wide @(0..50 | ForEach-Object { "t$_" }) 't2'
        $null = Merge-LoraModel $base $wide | Save-MergedModel (Join-Path $TestDrive 'wide-out') -WhatIf -WarningVariable warnings 3> $null
        "$($warnings[0])" | Should -BeLike '*up to the id 50*43 rows*'
    }
}

Describe 'A model card' {
    It 'states base, licence, datasets and tags' {
        $out = Join-Path $TestDrive 'card'
        $null = Merge-LoraModel $base $adapter | Save-MergedModel $out -Tags demo -Datasets me/chats, me/more
        $card = Read-Text "$out/README.md"
        $lines = 'base_model: org/llama-bf16', 'base_model_relation: finetune', "license: llama3.2 # Meta's", 'language: [en]',
            "datasets:`n- me/chats`n- me/more", "tags:`n- merged`n- lora`n- demo"
        foreach ($line in $lines) {
            $card.Contains("`n$line`n") | Should -BeTrue -Because $line
        }
    }

    It 'keeps its author''s words when the model is replaced' {
        $out = Join-Path $TestDrive 'card'
        Write-Text "$out/README.md" "---`nlicense: mit # agreed`ntags: [mine]`n---`n# My model`n`nMy words.`n"
        $null = Merge-LoraModel $base $adapter -Weight 0.5 | Save-MergedModel $out -Force -Tag demo
        $card = Read-Text "$out/README.md"
        $card |
            Should -BeLike "---`nlicense: mit # agreed`ntags: ``[mine, merged, lora, demo``]`n*---`n# My model`n`nMy words.`n*weight 0.5*"
        $null = Merge-LoraModel $base $adapter -Weight 0.5 | Save-MergedModel $out -Force -Tag demo
        Read-Text "$out/README.md" | Should -BeExactly $card
    }

    It 'of an adapter is the adapter''s own' {
        $mine = Copy-Folder $adapter 'mine'
        Write-Text "$mine/README.md" "---`ntags: [trl]`n---`n# Mine`n"
        $out = Join-Path $TestDrive 'lora-card'
        $null = Merge-LoraModel $base $mine | Save-MergedModel $out -Method lora
        Read-Text "$out/README.md" |
            Should -BeExactly ("---`ntags: [trl, lora]`nbase_model: org/llama-bf16`nbase_model_relation: adapter`n" +
                "library_name: peft`nlicense: llama3.2 # Meta's`n---`n# Mine`n")
        Read-Text "$out/chat_template.jinja" | Should -Be 'of the base'
    }
}

Describe 'A variant' {
    It 'is in the names of the files, and is read back' {
        $out = Join-Path $TestDrive 'variant'
        $shards = @(Merge-LoraModel $base $adapter | Save-MergedModel $out -Variant fp16 -MaxShardSize 5kB)
        $shards[0].Name | Should -Be ('model.fp16-00001-of-{0:d5}.safetensors' -f $shards.Count)
        "$out/model.safetensors.index.fp16.json" | Should -Exist
        @(Get-ModelTensor $out) | Should -HaveCount 21
        $null = Merge-LoraModel $base | Save-MergedModel $out -Variant fp16 -Force
        "$out/model.fp16.safetensors" | Should -Exist
    }

    It 'is refused where it means nothing' {
        $out = Join-Path $TestDrive 'no-variant'
        { Merge-LoraModel $base | Save-MergedModel $out -Variant '../fp16' } | Should -Throw -ErrorId 'ParameterArgumentValidationError,*'
        { Merge-LoraModel $base $adapter | Save-MergedModel $out -Variant fp16 -Method lora } |
            Should -Throw '*-Variant would have no effect*' -ErrorId 'InvalidArgument,*'
        { Merge-LoraModel $base $adapter | Save-MergedModel $out -QuantType fp4 -Method lora } |
            Should -Throw '*-QuantType would have no effect*' -ErrorId 'InvalidArgument,*'
        $out | Should -Not -Exist
    }
}
